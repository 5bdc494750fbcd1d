"""Fit the forecast's coefficients, and cross-validate them by series.

    python -m venv /tmp/fit && /tmp/fit/bin/pip install numpy msgspec torch==2.13.0
    PYTHONPATH=. /tmp/fit/bin/python tests/benchmarks/fit_forecast.py [--fold N] [--output FILE]

It fits on the traces and simulated series of `forecast_series.py`, and writes `coefficients.npz`
beside the model (some minutes on one core); with `--fold`, on all series but those of a fold, for
`forecast_scores.py` to be scored by. Sums of clients are taken within a fold, so no client is on
both sides.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from forecast_series import DAY, FOLDS, MONDAY, STEP, scored, servegen, simulated, weekly
from torch import nn

from exporter.core.forecast import BIN_SECONDS, learn, model
from exporter.core.forecast.features import ANCHORS, describe
from exporter.core.forecast.history import Timeline
from exporter.core.forecast.moment import moment_inputs
from exporter.core.forecast.network import CLIP, at_quantiles
from exporter.core.forecast.past import paths

MULTIPLES = np.array([0.75, 1.0, 1.25, 1.5, 2.0])
MEMBERS = {"alike": 2, "moment": 1}
HIDDEN, DAY_HIDDEN = 64, 16
PARTS = 8
KINDS = np.array([0.42, 0.08, 0.12, 0.11, 0.11, 0.04, 0.12])
"""Shares of the questions: day, hour, 5h, week, 7d, month, and any length."""
HOURLY, ROLLS_5H, WEEK, ROLLS_7D, MONTH, ANY = range(1, 7)


@dataclass
class Sample:
    """Windows at some moment: what was known, what came, and a budget it is judged by."""

    inputs: np.ndarray
    scale: np.ndarray
    days: np.ndarray
    followed: np.ndarray
    likeness: np.ndarray
    exact: np.ndarray
    anchors: np.ndarray
    narrow: np.ndarray
    moment: np.ndarray
    ahead: np.ndarray
    needed: np.ndarray
    anchor: np.ndarray
    importance: np.ndarray
    reached: np.ndarray
    hours: np.ndarray
    fold: np.ndarray

    def where(self, mask: np.ndarray) -> "Sample":
        return Sample(*(getattr(self, field.name)[mask] for field in fields(self)))


def join(parts: list[Sample]) -> Sample:
    columns = zip(*([getattr(p, f.name) for f in fields(Sample)] for p in parts), strict=True)
    return Sample(*(np.concatenate(column) for column in columns))


def enlarge(
    usage: np.ndarray, fold: np.ndarray, rng: np.random.Generator, sums: int, copies: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return many series made of the given ones, and the fold of each.

    They are shifted in the time of day, summed, and robbed of their first days.
    """
    steps = usage.shape[1]
    series, folds = [], []

    def add(tokens: np.ndarray, number: int, late: bool) -> None:
        shift = rng.integers(-72, 72) if rng.random() < 0.15 else round(rng.normal(0, 9))
        tokens = np.roll(tokens, shift)
        begin = rng.integers(0, steps - 4 * DAY) if late else 0
        if rng.random() < 0.7:
            begin -= begin % DAY
        series.append(np.where(np.arange(steps) < begin, 0.0, tokens))
        folds.append(number)

    regular = set(scored(usage).tolist())
    for client in np.flatnonzero(usage.any(axis=1)).tolist():
        for copy in range(copies if client in regular else 1):
            late = copy >= copies * 3 // 5 or (client not in regular and rng.random() < 0.5)
            add(usage[client], fold[client], late)
    for number in range(FOLDS):
        members = [client for client in regular if fold[client] == number]
        for copy in range(sums if len(members) > 1 else 0):
            chosen = rng.choice(members, rng.integers(2, min(7, len(members) + 1)), replace=False)
            weight = np.exp(rng.normal(0, 1, chosen.size))
            if rng.random() < 0.4:
                weight = weight / usage[chosen].mean(axis=1)
            add(weight @ usage[chosen], number, late=copy % 3 == 2)
    return np.array(series), np.array(folds)


def draw(
    first: float,
    series: np.ndarray,
    fold: np.ndarray,
    rng: np.random.Generator,
    every: int,
    size: int,
    true_weekdays: bool,
    importance: float,
) -> Sample:
    """Draw windows of all kinds at every so many steps."""
    count, steps = series.shape
    total = np.concatenate([np.zeros((count, 1)), series.cumsum(axis=1)], axis=1)
    bins = np.zeros((count, steps * STEP // BIN_SECONDS))
    bins[:, :: STEP // BIN_SECONDS] = series
    profile = learn(bins, first, first + steps * STEP)
    nothing = np.zeros((count, 0))
    since = np.minimum(profile.since, first + steps * STEP)
    born = ((since - first) // STEP).astype(int)

    def early(days: int) -> np.ndarray:
        """Tokens per step of the first days."""
        end = np.minimum(born + days * DAY, steps)
        rate = total[np.arange(count), end] / (days * DAY)
        # Who hardly begins has a budget for what is to come.
        return np.maximum(rate, 0.1 * total[:, -1] / np.maximum(steps - born, DAY))

    rates = {days: early(days) for days in (3, 7, 14)}
    shift = np.zeros(count) if true_weekdays else rng.integers(0, 7, count) * 86400.0
    parts = []
    for base in range(0, steps - 6, every):
        step = min(base + rng.integers(0, every), steps - 6)
        # Beginnings are rare and matter to everybody.
        age = step - born
        odds = np.where(age < -DAY, 0.02, np.where(age < 160, 2.5, 1.0))
        odds = odds * np.where(total[:, -1] > 0, 1.0, 0.2)
        if true_weekdays:
            # So are changes, of which the simulated series have many.
            hour, before = (
                total[:, max(step - back, 0)] - total[:, max(step - back - 6, 0)]
                for back in (0, DAY)
            )
            day = total[:, step] - total[:, max(step - DAY, 0)]
            changed = (hour > 3 * before) & (hour > day / 12) & (age > 2 * DAY)
            odds = odds * np.where(changed, 8.0, 1.0)
            odds = odds * np.where((age > 0) & (age < DAY), 2.0, 1.0)
        row = rng.choice(count, min(size, count), replace=count < size, p=odds / odds.sum())
        parts.append(
            _windows(
                Timeline(profile, nothing, first + step * STEP),
                (total, fold, born, rates),
                (step, row, shift[row]),
                rng,
                importance,
            )
        )
    return join(parts)


def _windows(timeline, known, asked, rng, importance) -> Sample:
    total, fold, born, rates = known
    step, row, shift = asked
    size, steps = row.size, total.shape[1] - 1
    left = steps - step
    kind = rng.choice(KINDS.size, size, p=KINDS)
    kind = np.where((kind == MONTH) & (left < 5 * DAY), 0, kind)
    local = timeline.now + shift
    of_day = int(timeline.now % 86400) // STEP
    of_week = ((local - MONDAY) % (7 * 86400)).astype(int) // STEP
    length = np.select(
        [kind == HOURLY, kind == ROLLS_5H, kind == WEEK, kind == ROLLS_7D, kind == MONTH],
        [6, 30, 7 * DAY, 7 * DAY, 30 * DAY],
        DAY,
    )
    any_length = np.exp(rng.uniform(0, np.log(14 * DAY), size)).astype(int) + 1
    length = np.where(kind == ANY, any_length, length)
    rolling = (kind == ROLLS_5H) | (kind == ROLLS_7D) | ((kind == ANY) & (rng.random(size) < 0.3))
    elapsed = np.select(
        [kind == HOURLY, kind == WEEK, kind >= MONTH],
        [step % 6, of_week, (length * rng.random(size)).astype(int)],
        of_day,
    )
    horizon = np.where(rolling, length, length - elapsed)
    # What goes beyond the data is asked as if it ended with them; a rolling window is shorter.
    horizon = np.maximum(np.minimum(horizon, left), 1)
    length = np.where(rolling, horizon, np.minimum(length, elapsed + horizon))
    elapsed = np.where(rolling, length, elapsed)
    used = total[row, step] - total[row, np.maximum(step - elapsed, 0)]

    ahead = total[row, step + horizon] - total[row, step]
    hit = np.full(size, np.nan)
    tight = rng.choice(MULTIPLES, size) * np.exp(rng.normal(0, 0.05, size))
    wide = np.exp(rng.uniform(np.log(0.5), np.log(4), size))
    multiple = np.where(rng.random(size) < 0.6, tight, wide)
    ample = np.exp(rng.uniform(np.log(3), np.log(1e4), size))
    beginning = step - born[row] < 2 * DAY
    multiple = np.where(rng.random(size) < np.where(beginning, 0.2, 0.05), ample, multiple)
    rate = np.where(
        length > 14 * DAY, rates[14][row], np.where(length > DAY, rates[7][row], rates[3][row])
    )
    budget = multiple * np.maximum(rate, 1e-9) * length
    for one in np.flatnonzero(kind <= ROLLS_5H).tolist():
        if kind[one] == 0:
            continue
        # Short windows have the budgets of busy ones among those of the first days.
        begin = min(born[row[one]], steps - length[one] - 1)
        edges = total[row[one], begin : begin + 3 * DAY + 1]
        sums = edges[length[one] :] - edges[: -length[one]]
        if sums.size and sums.max() > 0 and rng.random() < 0.8:
            level = rng.choice([0.5, 0.75, 0.9, 0.97, 1.0])
            factor = np.exp(rng.normal(0, 0.05)) * (1.25 if level == 1 else 1.0)
            budget[one] = max(np.quantile(sums, level), 0.02 * sums.max()) * factor
    for one in range(size):
        path = total[row[one], step : step + horizon[one] + 1]
        if rolling[one]:
            gone = np.arange(step, step + horizon[one] + 1) - length[one]
            path = path - total[row[one], np.maximum(gone, 0)]
            ahead[one] = path.max() - path[0]
            path = np.maximum.accumulate(path)
        reached = np.searchsorted(path - path[0], budget[one] - used[one])
        if budget[one] > used[one] and reached <= horizon[one]:
            hit[one] = max(reached, 0.5) / horizon[one]

    seconds = horizon * float(STEP)
    situation = describe(timeline, row, seconds, shift, rolling)
    exact = model.exactness(situation.likeness)
    needed = np.maximum(budget - used, 1e-9 * budget)
    sums = paths(timeline, row, seconds, rolling)
    moment = moment_inputs(situation, needed, sums)
    return Sample(
        situation.inputs.astype(np.float32),
        situation.scale,
        situation.days,
        situation.followed.astype(np.float32),
        situation.likeness.astype(np.float16),
        exact.astype(np.float16),
        situation.anchors.astype(np.float32),
        model.narrowness(exact, situation.steadiness).astype(np.float32),
        moment.astype(np.float32),
        ahead,
        np.where(budget > used, needed, np.nan),
        budget * horizon / length,
        importance * np.where(kind == 0, 1.0, 0.7),
        hit,
        seconds / 3600,
        fold[row],
    )


class Network(nn.Module):
    """Two hidden layers, as `model` computes them."""

    def __init__(self, inputs: int, outputs: int, edges: np.ndarray | None = None) -> None:
        super().__init__()
        self.edges = edges
        self.first = nn.Linear(inputs if edges is None else inputs * PARTS, HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, outputs)
        self.drop = nn.Dropout(0.3)

    def hidden(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.edges is not None:
            inputs = torch.from_numpy(at_quantiles(inputs.numpy(), self.edges))
        hidden = self.drop(nn.functional.silu(self.first(inputs)))
        return self.drop(nn.functional.silu(self.second(hidden)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.hidden(inputs))


class Plain(Network):
    """The chances, places, spreads and trusts of a mixture, and the doubts of a beginning."""

    def __init__(self, inputs: int, edges: np.ndarray | None = None) -> None:
        super().__init__(inputs, model.OUTPUTS, edges)
        parts = model.COMPONENTS
        with torch.no_grad():
            self.last.weight *= 0.3
            self.last.bias.zero_()
            free = torch.linspace(-1.5, 1, parts - ANCHORS)
            self.last.bias[parts + 1 + ANCHORS : 2 * parts + 1] = free
            self.last.bias[-2:] = torch.tensor([3.0, -1.0])

    def parts(self, values: torch.Tensor) -> list[torch.Tensor]:
        parts = model.COMPONENTS
        split = [parts + 1, parts, parts, parts, 2]
        chances, place, spread, trust, doubt = values.split(split, dim=1)
        return [chances, place, nn.functional.softplus(spread), torch.sigmoid(trust), doubt]


class Alike(Plain):
    """The same of parted inputs, and a component for each earlier day."""

    def __init__(self, inputs: int, likeness: int, edges: np.ndarray) -> None:
        super().__init__(inputs, edges)
        self.context = nn.Linear(HIDDEN, DAY_HIDDEN)
        self.beside = nn.Linear(likeness, DAY_HIDDEN, bias=False)
        self.verdict = nn.Linear(DAY_HIDDEN, 3)
        with torch.no_grad():
            self.verdict.weight *= 0.3
            self.verdict.bias[:] = torch.tensor([0.0, 0.0, -1.0])

    def mixture(
        self,
        values: torch.Tensor,
        followed: torch.Tensor,
        likeness: torch.Tensor,
        exact: torch.Tensor,
        anchors: torch.Tensor,
        narrow: torch.Tensor,
    ) -> list[torch.Tensor]:
        hidden = self.hidden(values)
        beside = nn.functional.silu(self.context(hidden)[:, None] + self.beside(likeness))
        chance, shift, spread = self.verdict(self.drop(beside)).unbind(dim=2)
        chance = torch.where(followed.isnan(), -1e4, chance)
        spread = nn.functional.softplus(spread) * exact
        days = [chance, followed.nan_to_num() + shift, spread, torch.zeros_like(shift)]
        *parts, doubt = self.parts(self.last(hidden))
        parts[1] = parts[1] + nn.functional.pad(anchors, (0, model.COMPONENTS - ANCHORS))
        parts[2] = parts[2] * narrow
        pairs = zip(parts, days, strict=True)
        return [*(torch.cat(pair, dim=1) for pair in pairs), doubt]


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))


def descend(network: Network, loss, size: int, epochs: int, batch: int, decay: float) -> Network:
    """Minimise `loss(rows)` over batches of rows."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 3e-3, total_steps=epochs * (size // batch), pct_start=0.15
    )
    for _ in range(epochs):
        order = torch.randperm(size)
        for begin in range(0, size - batch + 1, batch):
            optimiser.zero_grad()
            loss(order[begin : begin + batch]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            rate.step()
    return network.eval()


def standardise(inputs: np.ndarray) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0) + 0.05
    return tensor(np.clip((inputs - mean) / deviation, -CLIP, CLIP)), mean, deviation


def fit_outlook(sample: Sample, epochs: int) -> dict[str, np.ndarray]:
    """Fit the distribution: its log-loss at thresholds of all sizes, and Brier at the budgets."""
    inputs, mean, deviation = standardise(sample.inputs)
    anchor = np.log(np.maximum(sample.anchor, 1e-30))
    seen = sample.scale > 0
    blank = torch.from_numpy(~seen)
    # Amounts are kept relative to the scale, on the log axis, to fit into single precision.
    unit = np.where(seen, np.log(np.maximum(sample.scale, 1e-30)), anchor)
    judged = np.isfinite(sample.needed)
    left = np.where(judged, sample.needed, 1.0)
    log_left = tensor(np.where(judged, np.clip(np.log(left) - unit, -30, 30), 0.0))
    spent = tensor(sample.ahead >= left)
    log_ahead = np.log(np.maximum(sample.ahead, 1e-30)) - unit
    log_ahead = tensor(np.where(sample.ahead > 0, np.clip(log_ahead, -99, 60), -99.0))
    anchor = tensor(np.clip(anchor - unit, -30, 30))
    age = np.clip(1 - sample.days / model.BUDGET_TELLS_DAYS, 0, 1)
    young, doubted = tensor(age), tensor(age * seen)
    importance, judged = tensor(sample.importance), tensor(judged)
    followed = torch.from_numpy(sample.followed)
    likeness = torch.from_numpy(np.clip(sample.likeness, -CLIP, CLIP))
    exact = torch.from_numpy(sample.exact)
    anchors, narrow = torch.from_numpy(sample.anchors), torch.from_numpy(sample.narrow)
    count = 8
    levels = np.linspace(0, 1, PARTS + 1)
    edges = np.quantile(inputs.numpy()[::8], levels, axis=0).T.astype(np.float32)

    def fit(network: Alike) -> Network:
        def loss(rows: torch.Tensor) -> torch.Tensor:
            weight, place, spread, trust, doubt = network.mixture(
                inputs[rows],
                followed[rows],
                likeness[rows].float(),
                exact[rows].float(),
                anchors[rows],
                narrow[rows],
            )
            weight = torch.softmax(weight, dim=1)[:, 1:]
            slope = nn.functional.softplus(doubt[:, 1])
            going = torch.sigmoid(doubt[:, 0] - slope * anchor[rows])
            weight = (weight * (1 - doubted[rows] * (1 - going))[:, None])[:, :, None]
            spread = spread + model.MIN_SPREAD
            trust = trust * young[rows, None]
            trust = torch.where(blank[rows, None], torch.ones_like(trust), trust)
            place = place + trust * anchor[rows, None]
            size = len(rows)
            middle = (young[rows] > 0) & (torch.rand(size) < 0.5)
            middle = torch.where(middle, anchor[rows], torch.zeros(size)) - 0.3
            level = 2 * ((torch.arange(count) + torch.rand(size, count)) / count - 0.5)
            grid = middle[:, None] + level.sign() * (2.2 * level.abs() + 3.5 * level.abs() ** 4)
            thresholds = torch.cat([grid, log_left[rows, None]], dim=1)
            steps = (place[:, :, None] - thresholds[:, None, :]) / spread[:, :, None]
            chance = (weight * torch.sigmoid(steps)).sum(dim=1).clamp(1e-5, 1 - 1e-5)
            over = (log_ahead[rows, None] >= grid).float()
            log_loss = nn.functional.binary_cross_entropy(chance[:, :count], over, reduction="none")
            at_budget, truth = chance[:, count], spent[rows]
            brier = (at_budget - truth) ** 2
            sharp = nn.functional.binary_cross_entropy(at_budget, truth, reduction="none")
            total = log_loss.mean(dim=1) + judged[rows] * (2 * brier + 0.25 * sharp)
            return (total * importance[rows]).mean()

        return descend(network, loss, len(inputs), epochs=epochs, batch=2048, decay=1e-2)

    networks = []
    for member in range(MEMBERS["alike"]):
        torch.manual_seed(member)
        networks.append(fit(Alike(inputs.shape[1], likeness.shape[2], edges)))
    return {"alike.edges": edges} | pack("alike", networks, mean, deviation)


def fit_moment(sample: Sample) -> dict[str, np.ndarray]:
    """Fit the moment of exhaustion, by an error that counts hours near and forgives far ones."""
    sample = sample.where(np.isfinite(sample.reached) & (sample.scale > 0))
    raw = sample.moment
    inputs, mean, deviation = standardise(raw)
    guess, truth = tensor(raw[:, -1]), tensor(sample.reached)
    hours = tensor(sample.hours)
    # Exhaustion is announced where the need is small beside what is usual.
    importance = torch.sigmoid(0.2 - 4 * tensor(raw[:, sample.inputs.shape[1]]))

    def fit(network: Network) -> Network:
        def loss(rows: torch.Tensor) -> torch.Tensor:
            share = torch.sigmoid(guess[rows] + network(inputs[rows])[:, 0])
            error = (share - truth[rows]).abs() * hours[rows]
            return (error / (error + 2.5) * importance[rows]).mean()

        return descend(network, loss, len(inputs), epochs=12, batch=512, decay=1e-2)

    networks = []
    for member in range(MEMBERS["moment"]):
        torch.manual_seed(member)
        networks.append(fit(Network(inputs.shape[1], 1)))
    return pack("moment", networks, mean, deviation)


def pack(
    kind: str, networks: list[Network], mean: np.ndarray, deviation: np.ndarray
) -> dict[str, np.ndarray]:
    """Name the arrays as `network.Fitted` says, in the precision they are shipped in."""
    arrays = {"mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32)}
    for name, _ in networks[0].named_parameters():
        values = [network.get_parameter(name).detach().numpy().T for network in networks]
        arrays[name] = np.stack(values).astype(np.float16)
    return {f"{kind}.{name}": array for name, array in arrays.items()}


def sample_all(rng: np.random.Generator, thin: int) -> Sample:
    """Draw from all series; `thin` times fewer windows."""
    service = servegen(np.random.default_rng(7))
    usage = service.usage
    parts = [
        draw(
            service.first,
            *enlarge(usage, service.fold, rng, sums=50, copies=5),
            rng,
            every=thin,
            size=160,
            true_weekdays=False,
            importance=1.0,
        )
    ]
    for grid, every, size in zip(weekly(), (8, 16), (64, 24), strict=True):
        usage = grid.usage
        copied = enlarge(usage, grid.fold, rng, sums=0, copies=12)
        options = {"every": every * thin, "size": size, "true_weekdays": True, "importance": 1.0}
        parts.append(draw(grid.first, *copied, rng, **options))
    for number in range(FOLDS):
        # What is recombined of clients belongs to their fold; everything else to none.
        clients = usage_of(service, number)
        made = simulated(160, rng, clients)
        fold = np.where(np.arange(len(made)) % 4 == 0, number, -1)
        options = {"every": 10 * thin, "size": 60, "true_weekdays": True, "importance": 0.7}
        parts.append(draw(MONDAY, made, fold, rng, **options))
    return join(parts)


def usage_of(grid, fold: int) -> np.ndarray:
    chosen = [row for row in scored(grid.usage).tolist() if grid.fold[row] == fold]
    return grid.usage[chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fold", type=int, action="append", help="leave out the series of a fold")
    parser.add_argument("--thin", type=int, default=1, help="so many times fewer windows")
    parser.add_argument("--epochs", type=int, default=6)
    default = Path(model.__file__).with_name("coefficients.npz")
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sample = sample_all(np.random.default_rng(7), options.thin)
    if options.fold:
        sample = sample.where(~np.isin(sample.fold, options.fold))
    print(f"{len(sample.fold)} windows", flush=True)
    fitted = fit_outlook(sample, options.epochs) | fit_moment(sample)
    np.savez_compressed(options.output, **fitted)
    print(f"{options.output}: {options.output.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
