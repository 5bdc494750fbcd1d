"""The series that several panels rest on, in PromQL.

Gauges, and counters kept in the store, are the same on every replica of one exporter: `max` folds
replicas into one.
"""

CHOSEN = 'job=~"$job", provider=~"$provider"'
WHOLE = 'model="", consumer=""'  # a whole provider, neither a model nor a consumer of it

BUDGET_LABELS = "provider, period, unit, model, consumer"
SCOPE_LABELS = "provider, model, consumer"


def of_budget(name: str, *matchers: str) -> str:
    """A gauge of every chosen budget."""
    return f"max by ({BUDGET_LABELS}) (llm_quota_{name}{{{', '.join((CHOSEN, *matchers))}}})"


def of_scope(name: str, *matchers: str) -> str:
    """A gauge of every chosen provider, and of those models and consumers that have their own."""
    return f"max by ({SCOPE_LABELS}) (llm_quota_{name}{{{', '.join((CHOSEN, *matchers))}}})"


def of_provider(name: str, *matchers: str) -> str:
    """A gauge of every chosen provider."""
    return f"max by (provider) (llm_quota_{name}{{{', '.join((CHOSEN, *matchers))}}})"


def with_budget(expr: str) -> str:
    """Gives the labels that tell a provider's budgets apart as one, `budget`."""
    return f'label_join({expr}, "budget", " ", "period", "unit", "model", "consumer")'


def with_scope(expr: str) -> str:
    """Gives the labels that tell a provider's scopes apart as one, `scope`."""
    return f'label_join({expr}, "scope", " ", "model", "consumer")'


def with_limit(expr: str) -> str:
    """Gives the labels that tell the limits apart that a provider reports as one, `of`."""
    return f'label_join({expr}, "of", " ", "limit", "model")'


def at_end(expr: str) -> str:
    """The same gauges at the end of the time range: a choice by them is one for all of it."""
    return expr.replace("}", "} @ end()")


def counted(counter: str, labels: str, by: str, over: str = "rate", range_: str = "") -> str:
    """`rate` or `increase` of a counter of the store with these labels, summed up `by` some."""
    window = range_ or "[$__rate_interval]"
    return (
        f"sum by ({by}) (max by (job, {labels}) "
        f"({over}(llm_quota_{counter}_total{{{CHOSEN}}}{window})))"
    )


OUT = of_provider("exhausted_info", WHOLE)  # absent while available
PROBABILITY = of_budget("exhaustion_probability")
EXHAUSTION = of_budget("exhaustion_timestamp_seconds")
USED = of_budget("used_ratio")
BURN_RATE = of_budget("burn_rate", 'window="1h"')

# What is spent, or belongs to a provider that is out, is no longer about to run out.
STILL_OPEN = f"{USED} < 1 unless on (provider) {OUT} == 1"

# A legend writes the name of a label that a series lacks: hence the joined one.
BUDGET_LEGEND = "{{provider}} {{budget}}"
