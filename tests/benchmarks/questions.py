"""How many questions of routers a second, beside `/-/healthy` of the same server, in turns.

    python -m tests.benchmarks.questions [--rounds 3] [--seconds 3] [--providers 3 1000]

Then, with the smallest and the largest number of providers, how long questions take at half that
rate while Prometheus scrapes every second and 2,000 pushes a second arrive (by h2load, of Debian's
nghttp2-client), and with the largest what pushes lose to 5,000 questions a second. Ratios are
medians over the rounds; exit 1 when a target is missed. CPU is processor time of the server alone
for each question: where others use the machine too, it varies less than rates do.
"""

import argparse
import json
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks import h2load, processes, report, wrk
from tests.benchmarks.paced import Pushing

MODELS = 10
CONNECTIONS = 32
SCENARIOS = ("availability", "provider", "exhausted")
FEW, MANY = 0.8, 0.7
"""Least share of the rate of `/-/healthy`, with up to ten providers and with more."""

P99 = 0.005
PUSHES, QUESTIONS, LOST = 2_000, 5_000, 0.10
OUT = 20  # one of so many providers is out


class Asked(NamedTuple):
    """A number of providers; of `/-/healthy` and of each question, by round, the questions per
    second and the processor seconds of each."""

    providers: int
    rates: dict[str, list[float]]
    costs: dict[str, list[float]]

    def ratio(self, scenario: str) -> float:
        """The median of the ratios."""
        pairs = zip(self.rates[scenario], self.rates["healthy"], strict=True)
        return median(mine / healthy for mine, healthy in pairs)


def config(providers: int) -> str:
    """Two quotas, and one for each model."""
    budgets = "[{tokens: 2_000_000_000}, {tokens: 900_000_000, period: week, per: model}]"
    lines = (f"  provider-{number}: {budgets}\n" for number in range(providers))
    return "budgets:\n" + "".join(lines)


def send(url: str, method: str, path: str, body: str) -> None:
    """Send one request that must succeed."""
    kind = {"Content-Type": "application/x-ndjson" if method == "POST" else "application/json"}
    request = urllib.request.Request(url + path, body.encode(), kind, method=method)
    with urllib.request.urlopen(request, timeout=processes.DEADLINE):
        pass


def populate(url: str, providers: int) -> None:
    """Let every model be used, and some providers be out."""
    pairs = ((provider, model) for provider in range(providers) for model in range(MODELS))
    lines = (
        json.dumps({"provider": f"provider-{provider}", "model": f"model-{model}", "tokens": 1000})
        for provider, model in pairs
    )
    send(url, "POST", "/v1/usage", "\n".join(lines))
    for provider in range(0, providers, OUT):
        wish = json.dumps({"state": "quota_exhausted", "retry_after": "6h"})
        send(url, "PUT", f"/v1/providers/provider-{provider}/state", wish)


def ask(ours: processes.Program, providers: int, rounds: int, seconds: int) -> Asked:
    """Every question in every round, each after a run of `/-/healthy`.

    Not counted are the first questions about each model, which take some 50 us instead of one.
    """
    for _ in range(2):  # all that is new is measured
        ours.get("/metrics")
    for scenario in SCENARIOS:
        wrk.run(ours.url, scenario, providers, MODELS, connections=CONNECTIONS, seconds=2)
    names = ("healthy", *SCENARIOS)
    rates: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}

    def run(name: str) -> float:
        size = () if name == "healthy" else (providers, MODELS)
        before = ours.cpu_seconds()
        load = wrk.run(ours.url, name, *size, connections=CONNECTIONS, seconds=seconds)
        costs[name].append((ours.cpu_seconds() - before) / load.requests)
        return load.requests / load.seconds

    for _ in range(rounds):
        healthy = []
        for scenario in SCENARIOS:
            healthy.append(run("healthy"))
            rates[scenario].append(run(scenario))
        rates["healthy"].append(median(healthy))
    return Asked(providers, rates, costs)


def questions(providers: int) -> list[str]:
    """About every model of every provider."""
    return [
        f"/v1/availability?provider=provider-{provider}&model=model-{model}"
        for provider in range(providers)
        for model in range(MODELS)
    ]


def latency(
    ours: processes.Program, home: Path, rate: float, providers: int, seconds: int
) -> list[str]:
    """How long questions at that rate take at busy times, as a table; what of it misses."""
    with processes.prometheus(home, [ours]):
        pushing = Pushing(ours.url, PUSHES, seconds, providers)
        found = h2load.Asking(ours.url, questions(providers), rate, seconds).finish()
        pushed = pushing.finish()
    report.table(
        ("while Prometheus scrapes", "wanted/s", "answered/s", "p50 ms", "p99 ms", "longest ms"),
        [
            (f"{name}, {providers:,} providers", f"{wanted:,.0f}", f"{got:,.0f}", *times)
            for name, wanted, got, one in (
                ("questions", rate, found.rate, found),
                ("pushes", PUSHES, pushed.pushes / seconds, pushed),
            )
            for times in [[f"{value * 1e3:.1f}" for value in (one.p50, one.p99, one.longest)]]
        ],
    )
    missed = []
    if found.p99 > P99:
        missed.append(f"p99 of {providers}: {found.p99 * 1e3:.1f} ms > {P99 * 1e3:.0f} ms")
    if found.rate < 0.95 * rate:
        missed.append(f"rate of {providers}: {found.rate:,.0f} of {rate:,.0f}/s")
    return missed


def losses(url: str, providers: int, rounds: int, seconds: int) -> dict[str, float]:
    """The share of their rate that pushes lose to questions, or to as many of `/-/healthy`."""
    targets: dict[str, list[str]] = {
        "alone": [],
        "healthy": ["/-/healthy"],
        "availability": questions(providers),
    }
    rates: dict[str, list[float]] = {kind: [] for kind in targets}
    for _ in range(rounds):
        for kind, found in rates.items():
            asking = None
            if targets[kind]:
                asking = h2load.Asking(url, targets[kind], QUESTIONS, seconds + 1)
            load = wrk.run(url, "single", connections=64, seconds=seconds)
            found.append(load.requests / load.seconds)
            if asking is not None:
                asking.finish()
    lost = {
        kind: 1 - median(one / alone for one, alone in zip(found, rates["alone"], strict=True))
        for kind, found in rates.items()
    }
    report.table(
        ("pushes beside", "pushes/s", "lost"),
        [
            (f"{QUESTIONS:,} {kind}/s" if kind != "alone" else "nothing", *shown)
            for kind, found in rates.items()
            for shown in [(f"{median(found):,.0f}", f"{lost[kind]:.0%}")]
        ],
    )
    return lost


def main() -> None:
    """Ask for each number of providers, then at busy times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only-ratios", action="store_true")
    parser.add_argument("--providers", type=int, nargs="+", default=[3, 10, 100, 300, 1000])
    options = parser.parse_args()
    print(report.machine())
    missed: list[str] = []
    rows = []
    for providers in options.providers:
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours = stack.enter_context(processes.exporter(home, config(providers)))
            populate(ours.url, providers)
            asked = ask(ours, providers, options.rounds, options.seconds)
            target = FEW if providers <= 10 else MANY
            rates = {name: median(found) for name, found in asked.rates.items()}
            ratios = {name: asked.ratio(name) for name in SCENARIOS}
            rows.append(
                (
                    f"{providers:,}",
                    *(f"{rate:,.0f}" for rate in rates.values()),
                    *(f"{ratio:.2f}" for ratio in ratios.values()),
                    *(f"{median(found) * 1e6:.1f}" for found in asked.costs.values()),
                )
            )
            missed += [
                f"{name} of {providers}: {ratio:.2f} < {target}"
                for name, ratio in ratios.items()
                if ratio < target
            ]
            if options.only_ratios:
                continue
            first, last = (options.providers[each] == providers for each in (0, -1))
            if first or last:
                half = rates["availability"] / 2
                missed += latency(ours, home, half, providers, 5 * options.seconds)
            if last:
                lost = losses(ours.url, providers, options.rounds, options.seconds)
                if lost["availability"] > LOST:
                    missed.append(f"pushes lost {lost['availability']:.0%} > {LOST:.0%}")
    names = ("healthy", *SCENARIOS)
    costs = (f"{name} CPU us" for name in names)
    report.table(("providers", *(f"{name}/s" for name in names), *SCENARIOS, *costs), rows)
    report.finish(missed)


if __name__ == "__main__":
    main()
