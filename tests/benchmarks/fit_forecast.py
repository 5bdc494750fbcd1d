"""Fit the forecast's coefficients on the ServeGen trace, and cross-validate them by client.

    python -m venv /tmp/fit && /tmp/fit/bin/pip install numpy msgspec torch==2.13.0
    PYTHONPATH=. /tmp/fit/bin/python tests/benchmarks/fit_forecast.py [--trace FILE] [--validate]

Without `--validate` it fits on all clients and writes `coefficients.npz` beside the model (about
three minutes on one core); with it, every client is scored by networks fitted on the other four
fifths (about fifteen). Sums of clients are taken within a fifth, so no client is on both sides.
"""

import argparse
import csv
import gzip
import os
from dataclasses import dataclass, fields
from pathlib import Path

import forecast_scores
import numpy as np
import torch
from torch import nn

from exporter.core.forecast import BIN_SECONDS, learn, model
from exporter.core.forecast.features import describe
from exporter.core.forecast.history import Timeline
from exporter.core.forecast.moment import moment_inputs, paths
from exporter.core.forecast.network import CLIP, parted

TRACE = os.environ.get("LLM_QUOTA_TRACE", "../shared/traces/servegen-train.csv.gz")
STEP, DAY, DAYS, FIFTHS = 600, 144, 14, 5
STEPS = DAYS * DAY
CASES_PER_STEP = 180
MEMBERS = {"plain": 1, "alike": 2, "moment": 1}
HIDDEN, DAY_HIDDEN = 64, 16
PARTS = 8


def load(path: str) -> tuple[float, np.ndarray]:
    """Return the trace's first moment and the tokens per client and step."""
    with gzip.open(path, "rt") as file:
        rows = [
            (int(r["timestamp"]), r["provider"], float(r["tokens"])) for r in csv.DictReader(file)
        ]
    first = min(moment for moment, _, _ in rows)
    clients = {name: number for number, name in enumerate(sorted({name for _, name, _ in rows}))}
    usage = np.zeros((len(clients), STEPS))
    for moment, name, tokens in rows:
        usage[clients[name], (moment - first) // STEP] += tokens
    return float(first), usage


def bins_of(usage: np.ndarray) -> np.ndarray:
    """Put each step into the first of its bins, where an event at its timestamp falls."""
    bins = np.zeros((usage.shape[0], usage.shape[1] * STEP // BIN_SECONDS))
    bins[:, :: STEP // BIN_SECONDS] = usage
    return bins


def scored(usage: np.ndarray) -> np.ndarray:
    """Return the clients that are scored: traffic on ten days, and in the first three."""
    days = usage.reshape(-1, DAYS, DAY).sum(axis=2)
    return np.flatnonzero(((days > 0).sum(axis=1) >= 10) & (days[:, :3].sum(axis=1) > 0))


@dataclass
class Sample:
    """Windows at some moment: what was known, what came, and a budget it is judged by."""

    inputs: np.ndarray
    scale: np.ndarray
    days: np.ndarray
    followed: np.ndarray
    likeness: np.ndarray
    moment: np.ndarray
    ahead: np.ndarray
    used: np.ndarray
    budget: np.ndarray
    share_left: np.ndarray
    importance: np.ndarray
    reached: np.ndarray
    fifth: np.ndarray

    def where(self, mask: np.ndarray) -> "Sample":
        return Sample(*(getattr(self, field.name)[mask] for field in fields(self)))


def enlarge(
    usage: np.ndarray, fifth: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return many series made of the clients, the fifth of each, and its mean first days' use.

    Clients are shifted in the time of day, summed, and robbed of their first days.
    """
    series, fifths, starts = [], [], []

    def add(tokens: np.ndarray, number: int, late: bool) -> None:
        shift = rng.integers(-72, 72) if rng.random() < 0.15 else round(rng.normal(0, 9))
        tokens = np.roll(tokens, shift)
        begin = rng.integers(0, 10 * DAY) if late else 0
        if rng.random() < 0.7:
            begin -= begin % DAY
        starts.append(tokens[begin : begin + 3 * DAY].sum() / 3)
        series.append(np.where(np.arange(STEPS) < begin, 0.0, tokens))
        fifths.append(number)

    regular = set(scored(usage).tolist())
    for client in np.flatnonzero(usage.any(axis=1)).tolist():
        for copy in range(5 if client in regular else 1):
            late = copy >= 3 or (client not in regular and rng.random() < 0.5)
            add(usage[client], fifth[client], late)
    for number in range(FIFTHS):
        members = [client for client in regular if fifth[client] == number]
        for copy in range(50):
            chosen = rng.choice(members, rng.integers(2, 7), replace=False)
            weight = np.exp(rng.normal(0, 1, chosen.size))
            if rng.random() < 0.4:
                weight = weight / usage[chosen].mean(axis=1)
            total = weight @ usage[chosen]
            add(total, number, late=False)
            if copy % 2:
                add(total, number, late=True)
    return np.array(series), np.array(fifths), np.array(starts)


def draw(first: float, usage: np.ndarray, fifth: np.ndarray, rng: np.random.Generator) -> Sample:
    """Draw windows at every step: mostly days, the rest from ten minutes to six days long."""
    series, fifths, daily = enlarge(usage, fifth, rng)
    profile = learn(bins_of(series), first, first + STEPS * STEP)
    nothing = np.zeros((len(series), 0))
    total = np.concatenate([np.zeros((len(series), 1)), series.cumsum(axis=1)], axis=1)
    born = (profile.since - first) / STEP
    parts = []
    for step in range(STEPS - 1):
        # Beginnings are rare in the trace and matter to everybody.
        age = step - born
        odds = np.where(daily > 0, 1.0, 0.2)
        odds = odds * np.where(age < -DAY, 0.02, np.where(age < 160, 2.5, 1.0))
        row = rng.choice(len(series), CASES_PER_STEP, replace=False, p=odds / odds.sum())
        size = CASES_PER_STEP
        other = rng.random(size) < 0.3
        short = np.exp(rng.uniform(0, np.log(DAY), size))
        length = np.where(rng.random(size) < 0.75, short, rng.uniform(DAY, 6 * DAY, size))
        horizon = np.where(other, length.round().astype(int), DAY - step % DAY)
        horizon = np.minimum(horizon, STEPS - step)
        elapsed = np.where(other, (horizon * rng.uniform(0, 2, size)).astype(int), step % DAY)
        used = total[row, step] - total[row, np.maximum(step - elapsed, 0)]
        tight = rng.choice(forecast_scores.MULTIPLES, size) * np.exp(rng.normal(0, 0.05, size))
        multiple = np.where(
            rng.random(size) < 0.5, tight, np.exp(rng.uniform(np.log(0.5), np.log(4), size))
        )
        window = horizon + elapsed
        budget = multiple * np.maximum(daily[row], 1e-9) * window / DAY
        timeline = Timeline(profile, nothing, first + step * STEP)
        seconds = horizon * float(STEP)
        situation = describe(timeline, row, seconds, np.zeros(size))
        needed = np.maximum(budget - used, 1e-9)
        moment = moment_inputs(situation, needed, paths(timeline, row, seconds))
        target = total[row, step] + budget - used
        hit = [
            np.searchsorted(total[r, step : step + h + 1], t)
            for r, h, t in zip(row, horizon, target, strict=True)
        ]
        hit = np.where((budget > used) & (hit <= horizon), np.maximum(hit, 0.5) / horizon, np.nan)
        parts.append(
            Sample(
                situation.inputs.astype(np.float32),
                situation.scale,
                situation.days,
                situation.followed.astype(np.float16),
                situation.likeness.astype(np.float16),
                moment.astype(np.float32),
                total[row, step + horizon] - total[row, step],
                used,
                budget,
                horizon / window,
                np.where(other, 0.5, 1.0),
                hit,
                fifths[row],
            )
        )
    columns = zip(*([getattr(p, f.name) for f in fields(Sample)] for p in parts), strict=True)
    return Sample(*(np.concatenate(column) for column in columns))


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
            inputs = torch.from_numpy(parted(inputs.numpy(), self.edges))
        hidden = self.drop(nn.functional.silu(self.first(inputs)))
        return self.drop(nn.functional.silu(self.second(hidden)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.hidden(inputs))


class Plain(Network):
    """The chances, places, spreads and trusts of a mixture."""

    def __init__(self, inputs: int, edges: np.ndarray | None = None) -> None:
        super().__init__(inputs, 4 * model.COMPONENTS + 1, edges)
        parts = model.COMPONENTS
        with torch.no_grad():
            self.last.weight *= 0.3
            self.last.bias.zero_()
            self.last.bias[parts + 1 : 2 * parts + 1] = torch.linspace(-1.5, 1, parts)

    def mixture(self, values: torch.Tensor, *_: torch.Tensor) -> list[torch.Tensor]:
        return self.parts(self(values))

    def parts(self, values: torch.Tensor) -> list[torch.Tensor]:
        parts = model.COMPONENTS
        chances, place, spread, trust = values.split([parts + 1, parts, parts, parts], dim=1)
        return [chances, place, spread, torch.sigmoid(trust)]


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
        self, values: torch.Tensor, followed: torch.Tensor, likeness: torch.Tensor
    ) -> list[torch.Tensor]:
        hidden = self.hidden(values)
        beside = nn.functional.silu(self.context(hidden)[:, None] + self.beside(likeness))
        chance, shift, spread = self.verdict(self.drop(beside)).unbind(dim=2)
        chance = torch.where(followed.isnan(), -1e4, chance)
        days = [chance, followed.nan_to_num() + shift, spread, torch.zeros_like(shift)]
        pairs = zip(self.parts(self.last(hidden)), days, strict=True)
        return [torch.cat(pair, dim=1) for pair in pairs]


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


def fit_outlook(sample: Sample) -> dict[str, np.ndarray]:
    """Fit the distribution: its log-loss at thresholds of all sizes, and Brier at the budgets."""
    inputs, mean, deviation = standardise(sample.inputs)
    anchor = np.log(np.maximum(sample.budget * sample.share_left, 1e-30))
    blank = torch.from_numpy(sample.scale <= 0)
    # Amounts are kept relative to the scale, on the log axis, to fit into single precision.
    unit = np.where(sample.scale > 0, np.log(np.maximum(sample.scale, 1e-30)), anchor)
    judged = (sample.used < sample.budget) & (sample.budget > 0)
    left = np.where(judged, np.maximum(sample.budget - sample.used, 1e-30), 1.0)
    log_left = tensor(np.where(judged, np.clip(np.log(left) - unit, -30, 30), 0.0))
    spent = tensor(sample.used + sample.ahead >= sample.budget)
    log_ahead = np.log(np.maximum(sample.ahead, 1e-30)) - unit
    log_ahead = tensor(np.where(sample.ahead > 0, np.clip(log_ahead, -99, 60), -99.0))
    anchor = tensor(np.clip(anchor - unit, -30, 30))
    young = tensor(np.clip(1 - sample.days / model.BUDGET_TELLS_DAYS, 0, 1))
    importance, judged = tensor(sample.importance), tensor(judged)
    followed = torch.from_numpy(sample.followed)
    likeness = torch.from_numpy(np.clip(sample.likeness, -CLIP, CLIP))
    count = 8
    levels = np.linspace(0, 1, PARTS + 1)
    edges = np.quantile(inputs.numpy()[::8], levels, axis=0).T.astype(np.float32)

    def fit(network: Plain) -> Network:
        def loss(rows: torch.Tensor) -> torch.Tensor:
            weight, place, spread, trust = network.mixture(
                inputs[rows], followed[rows].float(), likeness[rows].float()
            )
            weight = torch.softmax(weight, dim=1)[:, 1:, None]
            spread = nn.functional.softplus(spread) + model.NARROWEST
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

        decay = 1e-3 if network.edges is None else 1e-2
        return descend(network, loss, len(inputs), epochs=6, batch=2048, decay=decay)

    arrays = {"alike.edges": edges}
    for kind, build in (
        ("plain", lambda: Plain(inputs.shape[1])),
        ("alike", lambda: Alike(inputs.shape[1], likeness.shape[2], edges)),
    ):
        networks = []
        for member in range(MEMBERS[kind]):
            torch.manual_seed(member)
            networks.append(fit(build()))
        arrays |= pack(kind, networks, mean, deviation)
    return arrays


def fit_moment(sample: Sample) -> dict[str, np.ndarray]:
    """Fit the moment of exhaustion, by an error that counts hours near and forgives far ones."""
    sample = sample.where(np.isfinite(sample.reached) & (sample.scale > 0))
    raw = sample.moment
    inputs, mean, deviation = standardise(raw)
    guess, truth = tensor(raw[:, -1]), tensor(sample.reached)
    hours = tensor(np.exp(sample.inputs[:, 0]) * 24)
    # Exhaustion is announced where the need is small beside what is usual.
    importance = torch.sigmoid(0.2 - 4 * tensor(raw[:, sample.inputs.shape[1]]))

    def fit(network: Network) -> Network:
        def loss(rows: torch.Tensor) -> torch.Tensor:
            share = torch.sigmoid(guess[rows] + network(inputs[rows])[:, 0])
            error = (share - truth[rows]).abs() * hours[rows]
            return (error / (error + 2.5) * importance[rows]).mean()

        return descend(network, loss, len(inputs), epochs=20, batch=512, decay=1e-2)

    networks = []
    for member in range(MEMBERS["moment"]):
        torch.manual_seed(member)
        networks.append(fit(Network(inputs.shape[1], 1)))
    return pack("moment", networks, mean, deviation)


def pack(
    kind: str, networks: list[Network], mean: np.ndarray, deviation: np.ndarray
) -> dict[str, np.ndarray]:
    """Name the arrays as `model.Fitted` says, in the precision they are shipped in."""
    arrays = {"mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32)}
    for name, _ in networks[0].named_parameters():
        values = [network.get_parameter(name).detach().numpy().T for network in networks]
        arrays[name] = np.stack(values).astype(np.float16)
    return {f"{kind}.{name}": array for name, array in arrays.items()}


def fit_all(sample: Sample) -> dict[str, np.ndarray]:
    return fit_outlook(sample) | fit_moment(sample)


def validate(first: float, usage: np.ndarray, fifth: np.ndarray, sample: Sample) -> None:
    """Score each client, and eight sums per fifth, by networks that saw none of its fifth."""
    rng = np.random.default_rng(1)
    replays = []
    for number in range(FIFTHS):
        fitted = fit_all(sample.where(sample.fifth != number))
        fitted = {name: array.astype(np.float32) for name, array in fitted.items()}
        members = [client for client in scored(usage) if fifth[client] == number]
        sums = [usage[rng.choice(members, 5, replace=False)].sum(axis=0) for _ in range(8)]
        series = np.array([*usage[members], *sums])
        replays.append(forecast_scores.replay(first, series, bins_of(series), fitted))
        print(f"fifth {number + 1}: {len(series)} series", flush=True)
    forecast_scores.report(forecast_scores.join(replays))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", default=TRACE)
    parser.add_argument("--validate", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(7)
    first, usage = load(arguments.trace)
    fifth = np.empty(len(usage), int)
    fifth[rng.permutation(len(usage))] = np.arange(len(usage)) % FIFTHS
    sample = draw(first, usage, fifth, rng)
    if arguments.validate:
        validate(first, usage, fifth, sample)
    else:
        target = Path(model.__file__).with_name("coefficients.npz")
        np.savez_compressed(target, **fit_all(sample))
        print(f"{target}: {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
