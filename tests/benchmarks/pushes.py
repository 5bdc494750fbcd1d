"""How many pushes a second, beside Pushgateway and VictoriaMetrics, in turns.

    python -m tests.benchmarks.pushes [--rounds 3] [--seconds 3]

Every push to the exporter is on disk before it is answered. Ratios are medians over the rounds;
exit 1 when one is below its target.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks import processes, report, wrk

CONFIG = "budgets:\n" + "".join(f"  provider-{i}: 2_000_000_000\n" for i in range(10))
BATCH = 1000
SINGLE_CONNECTIONS, BATCH_CONNECTIONS = 64, 4


class Contest(NamedTuple):
    """Our scenario, who it is held against, and the least ratio."""

    title: str
    scenario: str
    peer: str
    target: float

    @property
    def batch(self) -> int:
        """Events in a request."""
        return BATCH if self.scenario.startswith("batch") else 1


class Run(NamedTuple):
    """One run: events per second, processor microseconds per event, share of a core wrk used."""

    rate: float
    cost: float
    wrk: float


UNCHECKED, SHIPPED = "pushgateway, unchecked", "pushgateway, as shipped"
VICTORIA = "victoria-metrics"
CONTESTS = (
    Contest("single", "single", UNCHECKED, 1.0),
    Contest("single", "single", SHIPPED, 25.0),
    Contest("single, with an id", "single_id", UNCHECKED, 0.0),
    Contest("single, with an Idempotency-Key", "single_key", UNCHECKED, 0.0),
    Contest("1,000 in NDJSON, Idempotency-Key", "batch", VICTORIA, 0.5),
    Contest("the same, with an id on every event", "batch_id", VICTORIA, 0.1),
)


def _run(target: processes.Program, scenario: str, batch: int, seconds: int) -> Run:
    connections = SINGLE_CONNECTIONS if batch == 1 else BATCH_CONNECTIONS
    before = target.cpu_seconds()
    load = wrk.run(target.url, scenario, connections=connections, seconds=seconds)
    events = load.requests * batch
    return Run(events / load.seconds, (target.cpu_seconds() - before) / events * 1e6, load.busy)


def _counted(ours: processes.Program) -> float:
    exposition = ours.get("/metrics")
    outcomes = processes.sums(exposition, "llm_quota_events_total", "outcome")
    assert not any(n for (outcome,), n in outcomes.items() if outcome != "accepted"), outcomes
    return sum(processes.sums(exposition, "llm_quota_requests_total").values())


def _ours(ours: processes.Program, contest: Contest, seconds: int) -> Run:
    """A run in which everything answered was counted, and nothing else but what was under way."""
    before = _counted(ours)
    run = _run(ours, contest.scenario, contest.batch, seconds)
    counted, answered = _counted(ours) - before, run.rate * seconds
    assert counted >= answered * 0.98, f"{answered:.0f} answered, {counted:.0f} counted"
    return run


def main() -> None:
    """Run every contest in every round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    print(report.machine())
    runs: dict[Contest, list[tuple[Run, Run]]] = {contest: [] for contest in CONTESTS}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(processes.exporter(home, CONFIG))
        unchecked = processes.pushgateway(home, "--push.disable-consistency-check")
        peers = {
            UNCHECKED: stack.enter_context(unchecked),
            SHIPPED: stack.enter_context(processes.pushgateway(home)),
            VICTORIA: stack.enter_context(processes.victoria_metrics(home)),
        }
        for _ in range(options.rounds):
            for contest in CONTESTS:
                scenario = contest.peer.partition(",")[0].replace("-", "_")
                mine = _ours(ours, contest, options.seconds)
                theirs = _run(peers[contest.peer], scenario, contest.batch, options.seconds)
                runs[contest].append((mine, theirs))
    rows, missed = [], []
    for contest, pairs in runs.items():
        ratio = median(mine.rate / theirs.rate for mine, theirs in pairs)
        if ratio < contest.target:
            missed.append(f"{contest.title} / {contest.peer}: {ratio:.2f} < {contest.target:g}")
        rows.append(
            (
                contest.title,
                contest.peer,
                *(f"{median(pair[at].rate for pair in pairs):,.0f}" for at in (0, 1)),
                f"{ratio:.2f}",
                f"{contest.target:g}" if contest.target else "",
                *(f"{median(pair[at].cost for pair in pairs):.2f}" for at in (0, 1)),
                f"{median(mine.wrk for mine, _ in pairs):.0%}",
            )
        )
    report.table(
        ("push", "peer", "events/s", "peer's", "ratio", "target", "CPU us", "peer's", "wrk"),
        rows,
    )
    report.finish(missed)


if __name__ == "__main__":
    main()
