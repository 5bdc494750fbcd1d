"""The page a person sees first."""

from collections.abc import Mapping
from html import escape

from exporter import __version__
from exporter.core.measure import Measurement
from exporter.core.moment import rfc3339
from exporter.core.quota_state import State
from exporter.core.views import ProviderView

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem;
  color: #1f2933; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem; border-bottom: 1px solid #d9e2ec }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.available { color: #1b7f4b } .quota_exhausted { color: #b42318; font-weight: 600 }
th, td { white-space: nowrap } meter { width: 6rem }
nav a { margin-right: 1.2rem } .muted { color: #627d98 }
@media (prefers-color-scheme: dark) { body { color: #e4e7eb; background: #15191e }
  th, td { border-color: #323f4b } a { color: #7cc4fa }
  .available { color: #65d6ad } .quota_exhausted { color: #ff9b9b } }
"""

_LINKS = {
    "/metrics": "metrics",
    "/v1/providers": "providers",
    "/v1/exhausted": "exhausted",
    "/openapi.json": "API",
    "/-/healthy": "health",
}


def landing(views: Mapping[str, ProviderView], now: float) -> str:
    """The landing page: every provider, its state and its budgets."""
    rows = "".join(_rows(view) for view in views.values())
    links = "".join(f'<a href="{path}">{name}</a>' for path, name in _LINKS.items())
    nothing = "" if rows else "<p>Nothing has been pushed yet, and no budget is configured.</p>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>llm-quota-exporter</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>llm-quota-exporter</h1>
<p class="muted">{escape(__version__)}, as of {rfc3339(float(int(now)))}</p><nav>{links}</nav>
<table><thead><tr><th>provider</th><th>state</th><th>retry after</th><th>period</th>
<th class="n">used</th><th class="n">budget</th><th></th><th class="n">runs out</th><th>when</th>
</tr></thead><tbody>{rows}</tbody></table>{nothing}</body></html>
"""


def _rows(view: ProviderView) -> str:
    whole = view.whole.view
    state = whole.state
    reason = f" ({whole.reason})" if whole.reason else ""
    shown = state.value.replace("_", " ") + reason
    if view.whole.pending and state is State.AVAILABLE:
        shown += ", recovery pending"
    who = (
        f'<td>{escape(view.name)}</td><td class="{state.value}">{escape(shown)}</td>'
        f"<td>{rfc3339(whole.retry_at and float(int(whole.retry_at))) or ''}</td>"
    )
    budgets = [_budget(one) for one in view.measurements] or ["<td></td>" * 6]
    return "".join(f"<tr>{who}{budget}</tr>" for budget in budgets)


def _budget(one: Measurement) -> str:
    share = min(1.0, one.used / one.budget.amount)
    when = rfc3339(one.exhaustion_at and float(int(one.exhaustion_at))) or ""
    return (
        f'<td>{escape(one.budget.period.name)}</td><td class="n">{one.used:,.0f}</td>'
        f'<td class="n">{one.budget.amount:,}</td><td>'
        # Green, then yellow, then red: the less the better.
        f'<meter value="{share:.4f}" low="0.8" high="0.95" optimum="0"></meter></td>'
        f'<td class="n">{one.probability:.0%}</td><td>{when}</td>'
    )
