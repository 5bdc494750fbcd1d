"""The end of a wait: what OTLP reported and was held is recorded once nothing better came."""

from collections import Counter
from collections.abc import Callable

from exporter.intake.batching import Batcher
from exporter.intake.formats import FORMATS
from exporter.intake.otlp_reports import Reports, Settled
from exporter.intake.reading import Rejection
from exporter.intake.repeats import REPEATED, Repeats
from exporter.recorder import Beside
from exporter.service import Service
from exporter.storage.contract import Batch, StorageError
from exporter.workers import Kind


class Settling:
    """Records what was held.

    Args:
        batcher: builds the batches of a moment, in Unix seconds.
    """

    def __init__(
        self,
        service: Service,
        clock: Callable[[], float],
        reports: Reports,
        repeats: Repeats,
        batcher: Callable[[float], Batcher],
    ) -> None:
        self._service = service
        self._clock = clock
        self._reports = reports
        self._repeats = repeats
        self._batcher = batcher
        self._began = False  # what a process before this one held is known from then on

    async def settle(self) -> None:
        """Record what was held long enough; to be called every second or so.

        Raises:
            StorageError: it could not be stored, and is held again.
        """
        if self._began and not self._reports.waiting:
            return
        run = self._service.workers.run  # readers of pushes have what is held in the same thread
        settled = await run(Kind.INTAKE, self._settled)
        try:
            for source, batch, beside in await run(Kind.INTAKE, self._batches, settled):
                await self._service.recorder.record_signals(
                    source, batch, (), self._clock(), beside
                )
        except StorageError:
            await run(Kind.INTAKE, self._reports.put_back, settled)
            raise
        self._began = True

    def _settled(self) -> list[Settled]:
        self._reports.follow(self._service.documents.notes)
        return self._reports.settle(self._clock())

    def _batches(self, settled: list[Settled]) -> list[tuple[str, Batch, Beside]]:
        """A batch of each source that it came in by."""
        found = []
        for form in FORMATS:
            mine = [one for one in settled if one.report.form == form.path]
            if not mine:
                continue
            batcher, rejected = self._batcher(self._clock()), list[Rejection]()
            usages = [one.said for one in mine if not isinstance(one.said, str)]
            counted, suspected = self._repeats.counted(usages)
            reasons = Counter(one.said for one in mine if isinstance(one.said, str))
            reasons[REPEATED] += len(usages) - len(counted)
            batch = batcher.batch(list(enumerate(counted)), rejected)
            batch.documents = self._reports.documents()
            found.append((form.source, batch, Beside(reasons, batcher.unpriced, suspected)))
        return found
