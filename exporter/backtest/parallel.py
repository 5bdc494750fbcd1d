"""A replay on all cores: decisions of providers without a common budget do not depend on each
other."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing.sharedctypes import SynchronizedArray

import numpy as np

from exporter.backtest.replay import Decisions, Floats, replay
from exporter.backtest.usage import Rows
from exporter.config import Config
from exporter.core.budget import Budget
from exporter.core.series import Series

WORTH_SPLITTING = 20_000
"""Decisions from which on a second process saves more than it costs."""

_POLL_SECONDS = 0.2  # between two readings of how far they are

_done: "SynchronizedArray[int] | None" = None  # one number per process, set in each of them


def replay_on_all_cores(
    usage: Mapping[Series, Rows],
    config: Config,
    method: str,
    times: Floats,
    until: float,
    progress: Callable[[int], None],
) -> Decisions:
    """Do what `replay` does; the cases come in another order."""
    worth = len(times) * len(usage) // WORTH_SPLITTING
    groups = _together(config.budgets)
    count = max(1, min(os.cpu_count() or 1, worth, len(groups)))
    if count == 1:
        return replay(usage, config, method, times, until, progress)
    # The processes are the threads: more of them in each would only stand in the others' way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    done: SynchronizedArray[int] = context.Array("l", count)
    parts = [_part(usage, config, groups[which::count]) for which in range(count)]
    with ProcessPoolExecutor(count, context, initializer=_share, initargs=(done,)) as pool:
        running = [
            pool.submit(_replay_part, which, *part, method, times, until)
            for which, part in enumerate(parts)
        ]
        while wait(running, _POLL_SECONDS).not_done:
            progress(min(done[:]))
        found = [each.result() for each in running]
    return replace(
        found[0],
        cases=[case for part in found for case in part.cases],
        counted=[each for part in found for each in part.counted],
        used=np.concatenate([part.used for part in found], axis=1),
        said={
            name: np.concatenate([part.said[name] for part in found], axis=2)
            for name in found[0].said
        },
    )


def _together(budgets: Mapping[str, Sequence[Budget]]) -> list[set[str]]:
    """The names, in groups of those that budgets count together."""
    group_of: dict[str, set[str]] = {}
    for name, those in sorted(budgets.items()):
        group = {name}.union(*(budget.pool for budget in those))
        group = group.union(*(group_of[one] for one in group if one in group_of))
        group_of.update(dict.fromkeys(group, group))
    return list({id(group): group for group in group_of.values()}.values())


def _part(
    usage: Mapping[Series, Rows], config: Config, groups: Iterable[Set[str]]
) -> tuple[dict[Series, Rows], Config]:
    names = frozenset().union(*groups)
    budgets = {name: those for name, those in config.budgets.items() if name in names}
    found = {series: rows for series, rows in usage.items() if series.provider in names}
    return found, replace(config, budgets=budgets)


def _share(done: "SynchronizedArray[int]") -> None:
    global _done
    _done = done


def _replay_part(
    which: int,
    usage: Mapping[Series, Rows],
    config: Config,
    method: str,
    times: Floats,
    until: float,
) -> Decisions:
    def progress(steps: int) -> None:
        assert _done is not None  # noqa: S101 - set before the first task
        _done[which] = steps

    return replay(usage, config, method, times, until, progress)
