"""The exporter itself, as families of metrics."""

from collections.abc import Iterator

from prometheus_client import ProcessCollector

from exporter import __version__
from exporter.snapshot import Snapshot
from exporter.supervisor import Supervisor
from exporter.web.exposition import Family, counter, gauge, histogram


class ExporterCollector:
    """What the exporter knows of itself.

    Attributes:
        reloaded: whether the last reload was good.
        reloaded_at: Unix seconds of the last good one.
        tasks: what goes on in the background.
    """

    def __init__(self, now: float, tasks: Supervisor) -> None:
        self.tasks = tasks
        self.reloaded = True
        self.reloaded_at = now

    def collect(self, snapshot: Snapshot) -> Iterator[Family]:
        """Yield the families named `llm_quota_exporter_…`; on the event loop's thread."""
        info = gauge("exporter_build_info", "1, and the version.", "version")
        info.samples[__version__,] = 1.0
        yield info
        yield _single(
            "exporter_config_last_reload_successful",
            "1 when the configuration file was good when last read.",
            float(self.reloaded),
        )
        yield _single(
            "exporter_config_last_reload_success_timestamp_seconds",
            "When the configuration was last taken over.",
            self.reloaded_at,
        )
        yield _single(
            "exporter_storage_up",
            "1 when the store did what it was last asked.",
            float(snapshot.storage_up),
        )
        if snapshot.last_push:
            yield _single(
                "exporter_last_push_timestamp_seconds",
                "When usage was last stored.",
                snapshot.last_push,
            )
        yield from _commits(snapshot)
        yield from self._failures(snapshot)

    def _failures(self, snapshot: Snapshot) -> Iterator[Family]:
        failures = counter("exporter_task_failures", "Unexpected errors, by where.", "task")
        for task, times in self.tasks.failures.items():
            failures.samples[task,] = times
        failures.samples["commit_callback",] = snapshot.commits.failures
        yield failures
        jumps = counter("exporter_clock_jumps", "Times the system's clock was set.", "direction")
        for direction, times in snapshot.clock_jumps.items():
            jumps.samples[direction,] = times
        yield jumps
        yield _single(
            "exporter_clock_last_jump_seconds",
            "By how much the system's clock was last set; less than 0 is back.",
            snapshot.clock_last_jump,
        )
        if snapshot.clock_ahead is not None:
            yield _single(
                "exporter_clock_ahead_of_storage_seconds",
                "By how much the system's clock is ahead of the store's; less than 0 is behind.",
                snapshot.clock_ahead,
            )


def _commits(snapshot: Snapshot) -> Iterator[Family]:
    stats = snapshot.commits
    for name, text, found in (
        ("commit_duration_seconds", "Time to make a group of pushes durable.", stats.durations),
        ("commit_group_size", "Pushes made durable together.", stats.group_sizes),
        (
            "storage_tidy_duration_seconds",
            "Time of each step of what the store puts off, such as folding its journal.",
            stats.tidied,
        ),
    ):
        family = histogram("exporter_" + name, text)
        family.add((), found)
        yield family
    depth = gauge("exporter_queue_depth", "Work that waits or runs, by where.", "queue")
    depth.samples = {(queue,): float(waiting) for queue, waiting in snapshot.queues.items()}
    yield depth


class ProcessFamilies:
    """The process, as the official library shows it; runs in any thread."""

    def __init__(self) -> None:
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Family]:
        """Yield the families named `process_…`."""
        for metric in self._process.collect():
            family = Family(metric.type, metric.name, metric.documentation)
            for sample in metric.samples:
                family.samples[tuple(sample.labels.values())] = sample.value
            yield family


def _single(name: str, text: str, value: float) -> Family:
    family = gauge(name, text)
    family.samples[()] = value
    return family
