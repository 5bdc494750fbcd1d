"""Usage read from files."""

import gzip
import json
from pathlib import Path

import pytest

from exporter.backtest.files import read as read_file
from exporter.backtest.range_query import JUST_BEFORE
from exporter.backtest.usage import FileError, Usage
from exporter.core.budget import NANO, BudgetUnit
from exporter.core.prices import Prices, price
from exporter.core.series import Series
from exporter.core.slots import COST, REQUESTS


def written(folder: Path, content: str | bytes, name: str = "usage.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, prices: Prices | None = None, unit: BudgetUnit = BudgetUnit.TOKENS) -> Usage:
    return read_file(path, Series, prices or Prices(), unit)


def tokens(usage: Usage, provider: str) -> list[int]:
    """Of all models and consumers, in the order of their series."""
    return [
        sum(counts[:REQUESTS])
        for series, rows in usage.rows.items()
        if series.provider == provider
        for counts in rows.counts.tolist()
    ]


def held(path: Path) -> dict[str, list[tuple[float, int]]]:
    found: dict[str, list[tuple[float, int]]] = {}
    for series, rows in read(path).rows.items():
        used = rows.counts[:, :REQUESTS].sum(axis=1).tolist()
        found.setdefault(series.provider, []).extend(
            zip(rows.timestamps.tolist(), used, strict=True)
        )
    return {name: sorted(uses) for name, uses in found.items()}


EXPECTED = {"a": [(1736121600, 5), (1736122200, 7)], "b": [(1736121601.5, 1)]}


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,provider,tokens\n1736121600,a,5\n1736121601.5,b,1\n1736122200,a,7\n",
        "Tokens, model ,provider,TIMESTAMP\n7,x,a,1736122200\n5,y,a,1736121600\n"
        "1.0,,b,1736121601.5\n",
        "timestamp,provider,tokens\r\n2025-01-06T00:00:00Z,a,5\r\n"
        "2025-01-06T01:10:00+01:00,a,7\r\n\r\n2025-01-06 00:00:01.500Z,b,1",
        '\ufefftimestamp,provider,tokens\n"1736121600","a","5"\n1736122200,a,7\n1736121601.5,b,1',
    ],
)
def test_columns_and_rows_may_come_in_any_order_and_notation(tmp_path: Path, text: str) -> None:
    assert held(written(tmp_path, text)) == EXPECTED
    assert held(written(tmp_path, gzip.compress(text.encode()))) == EXPECTED


HEAD = "timestamp,provider,tokens\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "",
            "usage.csv:1: no column timestamp, provider, tokens (or requests, or cost_usd), "
            "got an empty line",
        ),
        ("timestamp,name,tokens\n", "usage.csv:1: no column provider, got timestamp,name,tokens"),
        (HEAD, "usage.csv: no usage in it"),
        (HEAD + "1,a,1\n2,a\n", "usage.csv:3: expected 3 columns, got 2"),
        (
            "timestamp,provider,requests\n1,a,x\n",
            "usage.csv:2: requests: expected a number of at least 0, got 'x'",
        ),
        (
            "timestamp,provider,cost_usd\n1,a,-0.5\n",
            "usage.csv:2: cost_usd: expected a number of at least 0, got '-0.5'",
        ),
        (
            "timestamp,provider,tokens,input_tokens,output_tokens\n1,a,9,5,5\n",
            "usage.csv:2: tokens: expected at least the 10 of its kinds, got 9",
        ),
        (HEAD + "1,a,x\n", "usage.csv:2: tokens: expected a number of at least 0, got 'x'"),
        (HEAD + "1,a,-1\n", "usage.csv:2: tokens: expected a number of at least 0, got '-1'"),
        (HEAD + "1,a,nan\n", "usage.csv:2: tokens: expected a number of at least 0, got 'nan'"),
        (HEAD + "1,,1\n", "usage.csv:2: provider: expected a name, got an empty value"),
        (
            HEAD + "1736121600000,a,1\n",
            "usage.csv:2: timestamp: expected Unix seconds, got 1736121600000",
        ),
        (
            HEAD + "2025-01-06T00:00:00,a,1\n",
            "usage.csv:2: timestamp: expected Unix seconds or RFC 3339 with an offset, "
            "got '2025-01-06T00:00:00'",
        ),
        (
            HEAD + "yesterday,a,1\n",
            "usage.csv:2: timestamp: expected Unix seconds or RFC 3339 with an offset, "
            "got 'yesterday'",
        ),
        (HEAD.encode() + b"1,\xff,1\n", "usage.csv:2: expected UTF-8, got 0xff"),
        (gzip.compress(HEAD.encode())[:-9], "usage.csv: cannot read it: "),
        ('{"data": ', "usage.csv: no answer to a Prometheus range query: "),
        ("[1]", "usage.csv: no answer to a Prometheus range query: Expected `object`, got `array`"),
        (
            '{"data": {"resultType": "vector", "result": []}}',
            "usage.csv: $.data.resultType: expected matrix, got vector",
        ),
        (
            '{"data": {"resultType": "matrix", "result": [{"metric": {}, "values": []}]}}',
            "usage.csv: $.data.result[0].metric: expected a label provider, got {}",
        ),
        (
            '{"data": {"resultType": "matrix", "result": '
            '[{"metric": {"provider": "a"}, "values": [[1, "1"], [2, "NaN"]]}]}}',
            "usage.csv: $.data.result[0].values[1]: tokens: expected a number of at least 0, "
            "got 'NaN'",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(FileError) as caught:
        read(written(tmp_path, content))
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.csv: cannot read it: No such file or directory"):
        read(tmp_path / "none.csv")


def matrix(**series: list[float]) -> str:
    result = [
        {"metric": {"provider": name[0], "part": name}, "values": [
            [1736121600 + 600 * index, str(value)] for index, value in enumerate(values)
        ]}
        for name, values in series.items()
    ]  # fmt: skip
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def test_counters_of_a_range_query_are_differenced_with_restarts(tmp_path: Path) -> None:
    counter = [*range(100, 112), 3, 10]
    usage = read(written(tmp_path, matrix(a=counter, a2=[5] * 14)))
    assert usage.kind == "cumulative counters"
    assert sum(tokens(usage, "a")) == 11 + 3 + 7
    assert usage.rows[Series("a")].timestamps[0] == 1736122200 - JUST_BEFORE


def test_increases_of_a_range_query_are_taken_as_they_are(tmp_path: Path) -> None:
    usage = read(written(tmp_path, matrix(a=[5, 3, 0, 9, 2.4], b=[1, 0, 1, 0, 0])))
    assert usage.kind == "increases"
    assert tokens(usage, "a") == [5, 3, 0, 9, 2]
    assert sum(tokens(usage, "b")) == 2


def test_labels_of_a_range_query_tell_models_consumers_and_kinds(tmp_path: Path) -> None:
    labels = {"provider": "a", "model": "m", "consumer": "c", "kind": "output"}
    values = [[600 * step, str(step % 2)] for step in range(4)]
    result = {"resultType": "matrix", "result": [{"metric": labels, "values": values}]}
    path = written(tmp_path, json.dumps({"data": result}))
    usage = read(path)
    assert usage.labels == {"model", "consumer"}
    assert usage.rows[Series("a", "m", "c")].counts[:, 3].tolist() == [0, 1, 0, 1]
    costs = read(path, unit=BudgetUnit.USD)
    assert costs.units == {BudgetUnit.USD}
    assert costs.rows[Series("a", "m", "c")].counts[:, COST].tolist() == [0, NANO, 0, NANO]


ALL = "timestamp,provider,model,consumer,tokens,input_tokens,output_tokens,requests,cost_usd\n"


def test_a_row_tells_models_consumers_kinds_requests_and_cost(tmp_path: Path) -> None:
    usage = read(written(tmp_path, ALL + "60,a,m,c,10,3,5,2,0.1\n60,a,m,,4,4,0,1,0\n"))
    assert usage.units == {BudgetUnit.TOKENS, BudgetUnit.REQUESTS, BudgetUnit.USD}
    assert usage.labels == {"model", "consumer"}
    assert usage.rows[Series("a", "m", "c")].counts.tolist() == [[3, 0, 0, 5, 0, 2, 2, NANO // 10]]
    assert usage.rows[Series("a", "m")].counts.tolist() == [[4, 0, 0, 0, 0, 0, 1, 0]]


def test_what_a_file_does_not_tell_is_not_made_up(tmp_path: Path) -> None:
    usage = read(written(tmp_path, HEAD + "60,a,5\n"))
    assert (usage.units, usage.labels) == ({BudgetUnit.TOKENS}, frozenset())
    [counts] = usage.rows[Series("a")].counts.tolist()
    assert counts[REQUESTS:] == [0, 0]
    requests = read(written(tmp_path, "timestamp,provider,requests\n60,a,5\n"))
    assert requests.units == {BudgetUnit.REQUESTS}
    assert requests.rows[Series("a")].counts[0].tolist() == [0, 0, 0, 0, 0, 0, 5, 0]


def test_what_costs_nothing_by_its_report_is_priced_and_a_reported_cost_wins(
    tmp_path: Path,
) -> None:
    prices = Prices({"m*": price({"input": 2 * NANO, "output": 10 * NANO})})
    rows = "60,a,m1,,8,3,5,1,\n61,a,m1,,8,3,5,1,0.5\n62,a,other,,8,3,5,1,\n"
    usage = read(written(tmp_path, ALL + rows), prices)
    assert usage.rows[Series("a", "m1")].counts[:, COST].tolist() == [56_000, NANO // 2]
    assert usage.rows[Series("a", "other")].counts[:, COST].tolist() == [0]
    assert usage.unpriced == {"other": 1}


def test_prices_tell_the_cost_of_a_file_without_one(tmp_path: Path) -> None:
    text = "timestamp,provider,model,input_tokens\n60,a,m,1000\n"
    path = written(tmp_path, text)
    assert BudgetUnit.USD not in read(path).units
    usage = read(path, Prices({"m": price({"input": NANO})}))
    assert BudgetUnit.USD in usage.units
    assert usage.rows[Series("a", "m")].counts[0, COST] == NANO // 1000
