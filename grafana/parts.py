"""What panels are made of: queries, colours of one meaning, and short forms of the builders."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import (
    common,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboardv2 as v2
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboardv2 as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

RUNBOOK = "https://github.com/llm-quota-exporter/llm-quota-exporter/blob/main/docs/runbook.md"

# One meaning each: fine, keep an eye on it, act today, act now; blue carries no judgement.
FINE, WATCH, SOON, NOW, NEUTRAL = "green", "yellow", "orange", "red", "blue"

# The probabilities at which the alert rules write a ticket and page, and a toss-up before them.
PROBABILITY_STEPS = ((0.5, WATCH), (0.8, SOON), (0.9, NOW))
# 1 just lasts; 2 and 6 are the factors of the burn rate alerts.
BURN_RATE_STEPS = ((1, WATCH), (2, SOON), (6, NOW))
SPENT_STEPS = ((0.8, SOON), (1, NOW))

CHOSEN = 'provider=~"$provider"'


def on_datasource() -> prometheus.QueryV2:
    """A query on the data source that is chosen at the top of the dashboard."""
    return prometheus.QueryV2().datasource(
        v2.Dashboardv2DataQueryKindDatasource().name("${datasource}")
    )


def query(expr: str, legend: str = "") -> prometheus.QueryV2:
    """A query over the dashboard's time range."""
    return on_datasource().expr(expr).legend_format(legend or "__auto").range(True)


def instant(expr: str, legend: str = "") -> prometheus.QueryV2:
    """A query whose present values are all that matters."""
    return on_datasource().expr(expr).legend_format(legend or "__auto").instant(True).range(False)


def rows(expr: str) -> prometheus.QueryV2:
    """Present values as table rows, one column a label."""
    return instant(expr).format(PromQueryFormat.TABLE)


def panel(
    title: str,
    visualization: Builder[model.VizConfigKind],
    *queries: prometheus.QueryV2,
    transformations: Sequence[v2.Transformation] = (),
    runbook: str = "",
) -> v2.Panel:
    """A panel; `runbook` names the section that says what to do about what it shows."""
    data = v2.QueryGroup().transformations(list(transformations))
    for letter, item in zip("ABCDEFGH", queries, strict=False):
        data = data.target(v2.Target().ref_id(letter).query(item))
    result = v2.Panel().title(title).data(data).visualization(visualization)
    if runbook:
        result = result.links(
            [v2.DataLink().title("What to do").url(f"{RUNBOOK}#{runbook}").target_blank(True)]
        )
    return result


def thresholds(*steps: tuple[float, str], below: str = FINE) -> v2.ThresholdsConfig:
    """Colours from each value upwards, and `below` under the first."""
    return (
        v2.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps(
            [model.Threshold(color=below), *(model.Threshold(value=v, color=c) for v, c in steps)]
        )
    )


def big_number(
    *steps: tuple[float, str], below: str = FINE, names: bool = False
) -> stat.VisualizationV2:
    """One value on a background that judges it; with `names`, what it belongs to as well."""
    return (
        stat.VisualizationV2()
        .graph_mode(options.BigValueGraphMode.NONE)
        .color_mode(options.BigValueColorMode.BACKGROUND_SOLID)
        .text_mode(
            options.BigValueTextMode.VALUE_AND_NAME if names else options.BigValueTextMode.VALUE
        )
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(thresholds(*steps, below=below))
    )


def lines(unit: str) -> timeseries.VisualizationV2:
    """Plain lines from zero, a shared tooltip sorted by size, the newest values in the legend."""
    return (
        timeseries.VisualizationV2()
        .unit(unit)
        .min(0)
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
            .calcs(["lastNotNull"])
        )
    )


def stacked(unit: str) -> timeseries.VisualizationV2:
    """Shares of a whole, one on top of the other."""
    return (
        lines(unit)
        .fill_opacity(40)
        .line_width(1)
        .stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    )


def limits_drawn(
    visualization: timeseries.VisualizationV2, *steps: tuple[float, str]
) -> timeseries.VisualizationV2:
    """The same lines, with each threshold drawn as a dashed line in its colour."""
    return visualization.thresholds(thresholds(*steps, below="transparent")).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
    )


Column = tuple[str, list[model.DynamicConfigValue]]


def table_of(*columns: Column, sort_by: str, descending: bool = True) -> table.VisualizationV2:
    """A table in which some columns look special; the others are shown as they come."""
    result = table.VisualizationV2().sort_by(
        [common.TableSortByFieldState().display_name(sort_by).desc(descending)]
    )
    for name, properties in columns:
        result = result.override_by_name(name, properties)
    return result


def column(
    name: str,
    *steps: tuple[float, str],
    unit: str = "",
    decimals: int | None = None,
    bar: bool = False,
    texts: model.ValueMap | None = None,
    link: str = "",
) -> Column:
    """How the column with this heading looks.

    `steps` colour its cells from each value upwards; with `bar` a bar from 0 to 1 instead.
    """
    settings: dict[str, object] = {}
    if unit:
        settings["unit"] = unit
    if decimals is not None:
        settings["decimals"] = decimals
    if texts:
        settings["mappings"] = [texts]
    if link:
        settings["links"] = [{"title": "Show only this provider", "url": link}]
    if steps or texts:
        settings["thresholds"] = thresholds(*steps).build()
        settings["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
    if bar:
        settings |= {"min": 0, "max": 1}
        settings["custom.cellOptions"] = {
            "type": "gauge",
            "mode": "basic",
            "valueDisplayMode": "text",
        }
    return name, look(settings)


def look(settings: dict[str, object]) -> list[model.DynamicConfigValue]:
    """Field settings in the form that an override takes."""
    return [model.DynamicConfigValue(id_val=key, value=value) for key, value in settings.items()]


PROVIDER = column("Provider", link="/d/llm-quota?${__url_time_range}&var-provider=${__value.raw}")


def timeline() -> statetimeline.VisualizationV2:
    """A band per series in the colour of its state."""
    return (
        statetimeline.VisualizationV2()
        .fill_opacity(80)
        .line_width(0)
        .per_page(20)
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


def joined(renamed: dict[str, str]) -> list[v2.Transformation]:
    """Joins rows about the same thing and shows only the columns in `renamed`, in that order."""
    return [
        # First, so that rows are joined by what is shown and not by the moment of their query too.
        v2.Transformation()
        .group("filterFieldsByName")
        .options({"include": {"names": list(renamed)}}),
        v2.Transformation().group("merge").options({}),
        v2.Transformation()
        .group("organize")
        .options(
            {
                "renameByName": renamed,
                "indexByName": {name: position for position, name in enumerate(renamed)},
                "excludeByName": {},
            }
        ),
    ]
