"""What panels are made of: queries, colours of one meaning, and short forms of the builders."""

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as Timeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as Lines
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

AnyPanel = Stat | Timeline | Table | Lines

RUNBOOK = "https://github.com/llm-quota-exporter/llm-quota-exporter/blob/main/docs/runbook.md"

# One meaning each: fine, keep an eye on it, act today, act now; blue carries no judgement.
FINE, WATCH, SOON, NOW, NEUTRAL = "green", "yellow", "orange", "red", "blue"

# The probabilities at which the alert rules warn and page, and a toss-up before them.
PROBABILITY_STEPS = ((0.5, WATCH), (0.8, SOON), (0.9, NOW))
# 1 just lasts; 2 and 6 are the factors of the burn rate alerts.
BURN_RATE_STEPS = ((1, WATCH), (2, SOON), (6, NOW))
# The shares at which the alert rules say that a budget is used.
USED_STEPS = ((0.5, WATCH), (0.8, SOON), (0.95, NOW))

DURATION = "dtdhms"  # "1 d 03:57:00": the units in words round down to whole hours

DATASOURCE = options.DataSourceRef(type_val="prometheus", uid="${datasource}")


def _asked(expr: str, legend: str) -> prometheus.Dataquery:
    ask = prometheus.Dataquery().datasource(DATASOURCE).expr(expr)
    return ask.legend_format(legend or "__auto")


def query(expr: str, legend: str = "") -> prometheus.Dataquery:
    """A query over the dashboard's time range."""
    return _asked(expr, legend).range()


def instant(expr: str, legend: str = "") -> prometheus.Dataquery:
    """A query whose present values are all that matters."""
    return _asked(expr, legend).instant()


def rows(expr: str) -> prometheus.Dataquery:
    """Present values as table rows, one column a label."""
    return instant(expr).format(PromQueryFormat.TABLE)


def panel(
    title: str,
    look: AnyPanel,
    *queries: prometheus.Dataquery,
    transformations: Sequence[model.DataTransformerConfig] = (),
    runbook: str = "",
) -> AnyPanel:
    """A panel; `runbook` names the section that says what to do about what it shows."""
    look.title(title).datasource(DATASOURCE).transformations(list(transformations))
    for letter, item in zip("ABCDEFGH", queries, strict=False):
        look.with_target(item.ref_id(letter))
    if runbook:
        link = dashboard.DashboardLink("What to do")
        look.links([link.url(f"{RUNBOOK}#{runbook}").target_blank(True)])
    return look


def thresholds(*steps: tuple[float, str], below: str = FINE) -> dashboard.ThresholdsConfig:
    """Colours from each value upwards, and `below` under the first."""
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps(
            [model.Threshold(color=below), *(model.Threshold(value=v, color=c) for v, c in steps)]
        )
    )


def big_number(*steps: tuple[float, str], below: str = FINE, names: bool = False) -> Stat:
    """One value on a background that judges it; with `names`, what it belongs to as well."""
    return (
        Stat()
        .graph_mode(options.BigValueGraphMode.NONE)
        .color_mode(options.BigValueColorMode.BACKGROUND_SOLID)
        .text_mode(
            options.BigValueTextMode.VALUE_AND_NAME if names else options.BigValueTextMode.VALUE
        )
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(thresholds(*steps, below=below))
    )


def lines(unit: str, nothing: str = "No data in this time range") -> Lines:
    """Plain lines from zero, with a shared tooltip sorted by size."""
    return (
        Lines()
        .unit(unit)
        .min(0)
        .no_value(nothing)
        .line_width(2)
        .fill_opacity(0)
        .show_points(options.VisibilityMode.NEVER)
        .tooltip(
            common.VizTooltipOptions()
            .mode(options.TooltipDisplayMode.MULTI)
            .sort(options.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
        )
    )


def stacked(unit: str, nothing: str = "No data in this time range") -> Lines:
    """Shares of a whole, one on top of the other."""
    return (
        lines(unit, nothing)
        .fill_opacity(40)
        .line_width(1)
        .stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    )


def limits_drawn(chart: Lines, *steps: tuple[float, str]) -> Lines:
    """The same lines, with each threshold drawn as a dashed line in its colour."""
    return chart.thresholds(thresholds(*steps, below="transparent")).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
    )


def in_colour(color: str, **settings: object) -> list[model.DynamicConfigValue]:
    """A line of one colour; `settings` are those of a graph, such as `lineWidth`."""
    return properties(
        {"color": {"mode": "fixed", "fixedColor": color}}
        | {f"custom.{key}": value for key, value in settings.items()}
    )


Column = tuple[str, list[model.DynamicConfigValue]]


def table_of(*columns: Column, sort_by: str, nothing: str, descending: bool = True) -> Table:
    """A table of these columns, or the text `nothing` where it has no rows."""
    result = (
        Table()
        .sort_by([common.TableSortByFieldState().display_name(sort_by).desc(descending)])
        .no_value(nothing)
        # Otherwise that text stands in every empty cell.
        .override_by_regexp(".*", properties({"noValue": " "}))
    )
    for name, looks in columns:
        result = result.override_by_name(name, looks)
    return result


def column(
    name: str,
    *steps: tuple[float, str],
    width: int = 0,
    unit: str = "",
    decimals: int | None = None,
    bar: bool = False,
    texts: model.ValueMap | None = None,
    link: str = "",
) -> Column:
    """How the column with this heading looks.

    Without a `width` in pixels it takes what the others leave, and at least `FLEXIBLE`. `steps`
    colour its cells from each value upwards; with `bar` a bar from 0 to 1 instead.
    """
    settings: dict[str, object] = (
        {"custom.width": width} if width else {"custom.minWidth": FLEXIBLE}
    )
    if unit:
        settings["unit"] = unit
    if decimals is not None:
        settings["decimals"] = decimals
    if texts:
        settings["mappings"] = [texts]
    if link:
        settings["links"] = [{"title": "Show only this provider", "url": link}]
    if steps or texts:
        settings["thresholds"] = thresholds(*steps, below="transparent").build()
        settings["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
    if bar:
        settings |= {"min": 0, "max": 1, "thresholds": thresholds(*steps).build()}
        settings["custom.cellOptions"] = {
            "type": "gauge",
            "mode": "basic",
            "valueDisplayMode": "text",
        }
    return name, properties(settings)


FLEXIBLE = 110
"""The least width in pixels of a column that has no fixed one."""


def properties(settings: dict[str, object]) -> list[model.DynamicConfigValue]:
    """Field settings in the form that an override takes."""
    return [model.DynamicConfigValue(id_val=key, value=value) for key, value in settings.items()]


PROVIDER = column(
    "Provider",
    link=(
        "/d/llm-quota?${__url_time_range}&${datasource:queryparam}&${job:queryparam}"
        "&var-provider=${__value.raw:percentencode}"
    ),
)


def timeline(nothing: str) -> Timeline:
    """A band per series in the colour of its state."""
    return (
        Timeline()
        .fill_opacity(80)
        .line_width(0)
        .per_page(20)
        .no_value(nothing)
        .legend(common.VizLegendOptions().show_legend(False))
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.SINGLE))
    )


def texts(named: dict[int, tuple[str, str]]) -> model.ValueMap:
    """A word and a colour for each number: `{1: ("out", NOW)}`."""
    return model.ValueMap(
        options={
            str(number): model.ValueMappingResult(text=text, color=color, index=index)
            for index, (number, (text, color)) in enumerate(named.items())
        }
    )


def joined(renamed: dict[str, str]) -> list[model.DataTransformerConfig]:
    """Joins rows about the same thing and shows only the columns in `renamed`, in that order."""

    def step(name: str, settings: dict[str, Any]) -> model.DataTransformerConfig:
        return model.DataTransformerConfig(id_val=name, options=settings)

    return [
        # `Time` stays until the end: without it Grafana does not merge when a query found nothing.
        step("filterFieldsByName", {"include": {"names": ["Time", *renamed]}}),
        step("merge", {}),
        step(
            "organize",
            {
                "renameByName": renamed,
                "indexByName": {name: position for position, name in enumerate(renamed)},
                "excludeByName": {"Time": True},
            },
        ),
    ]
