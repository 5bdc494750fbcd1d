"""Usage read from files."""

import gzip
import json
from pathlib import Path

import pytest

from exporter.backtest.usage import JUST_BEFORE, FileError, read


def written(folder: Path, content: str | bytes, name: str = "usage.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def held(path: Path) -> dict[str, list[tuple[float, int]]]:
    usage, _ = read(path)
    return {
        name: list(zip(rows.timestamps.tolist(), rows.tokens.tolist(), strict=True))
        for name, rows in usage.items()
    }


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
        ("", "usage.csv:1: no column timestamp, provider, tokens, got an empty line"),
        ("timestamp,name,tokens\n", "usage.csv:1: no column provider, got timestamp,name,tokens"),
        (HEAD, "usage.csv: no usage in it"),
        (HEAD + "1,a,1\n2,a\n", "usage.csv:3: expected 3 columns, got 2"),
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
    path = written(tmp_path, matrix(a=counter, a2=[5] * 14))
    usage, kind = read(path)
    assert kind == "cumulative counters"
    assert sum(usage["a"].tokens) == 11 + 3 + 7
    assert usage["a"].timestamps[0] == 1736122200 - JUST_BEFORE


def test_increases_of_a_range_query_are_taken_as_they_are(tmp_path: Path) -> None:
    usage, kind = read(written(tmp_path, matrix(a=[5, 3, 0, 9, 2.4], b=[1, 0, 1, 0, 0])))
    assert kind == "increases"
    assert usage["a"].tokens.tolist() == [5, 3, 0, 9, 2]
    assert usage["b"].tokens.sum() == 2
