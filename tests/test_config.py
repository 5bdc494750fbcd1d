"""The configuration file: what it means, and what is said about everything wrong in it."""

import dataclasses
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import (
    Account,
    Bearer,
    Config,
    ConfigError,
    Limits,
    PredictionSettings,
    Preferred,
    Probe,
    Right,
    Rule,
    load,
    parse,
)
from exporter.core.budget import PLAIN, Budget, Method
from exporter.core.windows import DAY, HOUR, Calendar, Rolling, Unit

ROOT = Path(__file__).parent.parent
TESTDATA = ROOT / "tests" / "testdata" / "config"

UTC_DAY = Calendar(Unit.DAY, ZoneInfo("UTC"))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "quota.yml")
    return [str(problem) for problem in caught.value.problems]


# -- what a good file means --


def test_the_shipped_configuration_means_what_it_says() -> None:
    assert load(ROOT / "config" / "quota.yml") == Config(
        budgets={
            "openai": (Budget(2_000_000, UTC_DAY),),
            "gemini": (Budget(5_000_000, Calendar(Unit.DAY, ZoneInfo("America/Los_Angeles"))),),
            "claude-team": (
                Budget(1_000_000, Rolling(5 * HOUR)),
                Budget(20_000_000, Calendar(Unit.WEEK, ZoneInfo("Europe/Berlin"))),
            ),
        }
    )


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "budgets:\nrules:\nlimits:\n", "\ufeff"]
)
def test_a_file_that_says_nothing_is_all_defaults(tmp_path: Path, text: str) -> None:
    file = tmp_path / "quota.yml"
    file.write_text(text)
    assert load(file) == Config()


def full_example() -> str:
    return (ROOT / "config" / "quota.full.yml").read_text()


def uncommented(text: str) -> str:
    """The example with what is commented out put into force: the lines that begin with `#:`."""
    return re.sub(r"(?m)^#:", "", text)


def test_the_full_example_states_the_defaults() -> None:
    assert parse(full_example(), "quota.full.yml") == Config()


def test_the_full_example_shows_every_section_and_key() -> None:
    config = parse(uncommented(full_example()), "quota.full.yml")
    for section in ("budgets", "aliases", "probes", "accounts", "rules", "bearers"):
        assert getattr(config, section), section
    shown = yaml.safe_load(uncommented(full_example()))
    assert set(shown["limits"]) == {field.name for field in dataclasses.fields(Limits)}
    deprecated = {"release_below"}
    assert set(shown["prediction"]) | deprecated == {
        field.name for field in dataclasses.fields(PredictionSettings)
    }
    (provider,) = shown["providers"].values()
    assert set(provider["probe"]) == {field.name for field in dataclasses.fields(Probe)}
    read = {"headers"}  # from the file
    assert set(provider["account"]) | read == {field.name for field in dataclasses.fields(Account)}


def test_one_provider_can_have_budgets_of_several_periods() -> None:
    config = parse(
        "budgets:\n"
        "  claude:\n"
        "    - 5\n"
        "    - {tokens: 6, period: minute}\n"
        "    - {tokens: 7, period: 1h30m}\n"
        "    - {tokens: 8, period: month, timezone: Asia/Kolkata}\n",
        "quota.yml",
    )
    assert config.budgets["claude"] == (
        Budget(5, UTC_DAY),
        Budget(6, Calendar(Unit.MINUTE, ZoneInfo("UTC"))),
        Budget(7, Rolling(5400)),
        Budget(8, Calendar(Unit.MONTH, ZoneInfo("Asia/Kolkata"))),
    )


def test_a_budget_names_only_the_weights_in_which_it_differs() -> None:
    config = parse(
        "weights: {cache_read: 0.1, output: 5}\n"
        "budgets:\n"
        "  a: 1\n"
        "  b: {tokens: 1, weights: {output: 4, reasoning: 0}}\n",
        "quota.yml",
    )
    assert config.budgets["a"][0].weights == (1, 0.1, 1, 5, 1, 1)
    assert config.budgets["b"][0].weights == (1, 0.1, 1, 4, 0, 1)
    assert Budget(1, UTC_DAY).weights == PLAIN


@pytest.mark.parametrize("off", ["off", "no", "false", "'off'"])
def test_predictions_can_be_for_showing_only(off: str) -> None:
    config = parse(f"prediction: {{exhausted_at: {off}, from_used: 1}}", "quota.yml")
    assert config.prediction == PredictionSettings(exhausted_at=None, from_used=1)


def test_the_linear_method_can_be_chosen() -> None:
    config = parse("prediction: {method: linear, exhausted_at: 1, from_used: 0}", "quota.yml")
    assert config.prediction == PredictionSettings(Method.LINEAR, 1, 0)


def test_a_release_below_keeps_its_meaning_and_is_deprecated() -> None:
    config = parse(
        "prediction: {release_below: 0.6}\n"
        "budgets:\n"
        "  a: 1\n"
        "  b: {tokens: 1, prediction: {from_used: 0.9}}\n",
        "quota.yml",
    )
    assert config.prediction == PredictionSettings(from_used=0, release_below=0.6)
    assert config.budgets["a"][0].prediction == config.prediction
    assert config.budgets["b"][0].prediction == PredictionSettings(from_used=0.9)
    assert list(map(str, config.deprecated)) == [
        "quota.yml:1: prediction.release_below: deprecated, set from_used instead: a scope then "
        "stays out until the time that was announced, and a prediction waits until that share of "
        "the budget is used"
    ]


def test_aliases_of_aliases_are_resolved() -> None:
    config = parse("aliases: {a: b, b: c, c: d, x: d}", "quota.yml")
    assert config.aliases == {"a": "d", "b": "d", "c": "d", "x": "d"}


def test_rules_keep_their_order() -> None:
    config = parse(
        "rules:\n"
        "  - {match: {key_alias: team-*, model: gpt-*}, provider: team}\n"
        "  - {match: {provider: '*'}, provider: rest}\n",
        "quota.yml",
    )
    assert config.rules == (
        Rule({"key_alias": "team-*", "model": "gpt-*"}, "team"),
        Rule({"provider": "*"}, "rest"),
    )


def test_probes_and_tokens_name_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "headers").touch()
    (tmp_path / "ci").touch()
    file = tmp_path / "quota.yml"
    file.write_text(
        "providers:\n"
        "  openai:\n"
        "    probe: {url: 'https://x.test/v1', method: POST, headers: {A-b: c d},\n"
        "            headers_file: headers, interval: 1h}\n"
        "  gemini:\n"
        "authentication:\n"
        f"  tokens: [{{name: ci, file: {tmp_path}/ci, rights: [push, read]}}]\n"
    )
    config = load(file)
    assert config.probes == {
        "openai": Probe(
            url="https://x.test/v1",
            method="POST",
            headers={"A-b": "c d"},
            headers_file=tmp_path / "headers",
            interval=3600,
            max_interval=3600,
        )
    }
    assert config.bearers == (Bearer("ci", tmp_path / "ci", frozenset({Right.PUSH, Right.READ})),)


@pytest.mark.parametrize(
    ("written", "bytes_"), [("1024", 1024), ("1KiB", 1024), ("10MiB", 10 * 2**20), ("1GiB", 2**30)]
)
def test_sizes_are_bytes_or_binary_units(written: str, bytes_: int) -> None:
    config = parse(f"limits: {{body_bytes: {written}, request_timeout: 1m}}", "quota.yml")
    assert config.limits == Limits(body_bytes=bytes_, request_timeout=60)


def test_memory_of_history_ids_and_otlp_can_be_set() -> None:
    config = parse(
        "retention: 400d\ndeduplication: 1d\notlp: {prefer: traces}\n"
        "budgets: {a: {tokens: 1, period: 35d}, b: {tokens: 1, period: month}}",
        "quota.yml",
    )
    assert (config.retention, config.deduplication) == (400 * DAY, DAY)
    assert config.otlp_prefer is Preferred.TRACES


def test_the_wait_that_means_a_quota_can_be_set() -> None:
    assert parse("signals: {exhausted_from: 15m}", "quota.yml").exhausted_from == 15 * 60


def test_history_has_to_hold_the_longest_window() -> None:
    month = "budgets: {a: {tokens: 1, period: month}}\nretention: "
    assert parse(f"{month}32d", "quota.yml").retention == 32 * DAY
    assert problems(f"{month}31d23h59m") == [
        "quota.yml:2: retention: expected at least 32d, "
        "since a has a budget per month, got '31d23h59m'"
    ]


@given(st.integers(1, 2**53))
def test_tokens_may_be_grouped_with_underscores(tokens: int) -> None:
    for written in (f"{tokens}", f"{tokens:_}"):
        assert parse(f"budgets: {{a: {written}}}", "quota.yml").budgets["a"][0].amount == tokens


# -- what is said about a bad one --


@pytest.mark.parametrize("file", sorted(TESTDATA.glob("invalid-*.yml")), ids=lambda file: file.stem)
def test_every_problem_is_told_with_its_line_place_and_value(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file)
    told = str(caught.value).replace(f"{TESTDATA}/", "")
    assert told == file.with_suffix(".txt").read_text().rstrip("\n")
    assert [str(problem) for problem in caught.value.problems] == str(caught.value).split("\n")


def test_a_problem_has_parts() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("budgets:\n  a: -5\n", "quota.yml")
    (problem,) = caught.value.problems
    assert problem == ("quota.yml", 2, "budgets.a", "expected a positive integer, got -5")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "quota.yml")
    assert str(caught.value) == f"{tmp_path}/quota.yml: cannot read it: No such file or directory"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot read it: Is a directory"


def test_absurd_nesting_is_refused() -> None:
    assert problems("[" * 2_000) == ["quota.yml: nested too deeply"]


LISTS = "".join(f"  l{n + 1}: &l{n + 1} [*l{n}, *l{n}, *l{n}]\n" for n in range(30))


@pytest.mark.parametrize(
    "text",
    [
        "budgets: &a {x: *a}",
        "budgets: {x: &a [{tokens: 5}, *a]}",
        "budgets:\n  l0: &l0 [5]\n" + LISTS,
        "budgets:\n  a: &a\n" + "    - 5\n" * 1000 + "".join(f"  b{n}: *a\n" for n in range(1000)),
    ],
    ids=["itself", "a list in itself", "doubled again and again", "a long one many times"],
)
def test_aliases_that_stand_for_too_much_are_refused_at_once(text: str) -> None:
    assert problems(text) == [
        "quota.yml: expected at most 500_000 values, those behind aliases counted each time"
    ]


def test_ordinary_anchors_are_followed() -> None:
    config = parse(
        "budgets:\n"
        "  a: &team [&day {tokens: 5, model: x}, {tokens: 9, period: week}]\n"
        "  b: *team\n"
        "  c: [*day]\n"
        "  d: &five 5\n" + "".join(f"  p{n}: *five\n" for n in range(3000)),
        "quota.yml",
    )
    assert config.budgets["b"] == config.budgets["a"]
    assert config.budgets["c"] == config.budgets["a"][:1]
    assert config.budgets["p2999"] == config.budgets["d"]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_long_chain_of_names_is_followed_in_one_pass(backwards: bool) -> None:
    links = [f"  n{n}: n{n + 1}\n" for n in range(5000)]
    text = "".join(["aliases:\n", *(reversed(links) if backwards else links)])
    assert set(parse(text, "quota.yml").aliases.values()) == {"n5000"}


def test_a_long_circle_of_names_is_refused_in_one_pass() -> None:
    text = "aliases:\n" + "".join(f"  n{n}: n{(n + 1) % 5000}\n" for n in range(5000))
    told = problems(text)
    assert told[-1] == "quota.yml: 4000 more problems"
    assert told[0] == (
        "quota.yml:2: aliases.n0: expected another name in the end, "
        "got n0 -> n1 -> n2 -> n3 -> n4 -> n5 -> n6 -> n7 -> …"
    )
    assert len(told) == 1001


def test_python_objects_are_not_made() -> None:
    assert problems("budgets: {a: !!python/object/apply:os.getpid []}") == [
        "quota.yml:1: budgets.a: expected at least one budget, got an empty list"
    ]


def test_absurdly_long_numbers_and_texts_are_cut_in_messages() -> None:
    assert problems(f"budgets: {{a: {'9' * 5000}, b: -{'9' * 5000}, c: {'x' * 5000}}}") == [
        f"quota.yml:1: budgets.a: expected at most 9_007_199_254_740_992, got {'9' * 60}…",
        f"quota.yml:1: budgets.b: expected a positive integer, got -{'9' * 59}…",
        f"quota.yml:1: budgets.c: expected a positive integer, got '{'x' * 60}…'",
    ]


def test_keys_that_would_break_a_line_are_quoted() -> None:
    assert problems('budgets: {"a\\nb": 5}') == [
        "quota.yml:1: budgets['a\\nb']: expected a name of printable characters "
        "without space around it, got 'a\\nb'"
    ]


def test_secrets_in_headers_are_never_shown() -> None:
    text = "providers: {a: {probe: {url: 'http://x', headers: {A: [hush], B: \"hu\\nsh\"}}}}"
    assert not [problem for problem in problems(text) if "hush" in problem or "hu\\n" in problem]


@given(st.text())
def test_any_text_is_a_configuration_or_a_list_of_problems(text: str) -> None:
    try:
        parse(text, "quota.yml")
    except ConfigError as exc:
        assert exc.problems  # noqa: PT017 - either outcome is right, any other exception is not


KEYS = sorted(set(re.findall(r"(\w+):", full_example())))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | scalars, inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(KEYS), documents))
def test_any_data_in_a_section_is_read_or_refused_with_its_line(data: object) -> None:
    try:
        parse(yaml.safe_dump(data, allow_unicode=True), "quota.yml")
    except ConfigError as exc:
        assert all(problem.line for problem in exc.problems)  # noqa: PT017 - as above
