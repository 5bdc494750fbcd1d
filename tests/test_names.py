"""Names are told apart within caps, and a cap shuts nobody out for ever."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Limits, parse
from exporter.core.series import Series
from exporter.names import OTHER, Names

NOW = 1_790_000_000.0
LIMITS = Limits(providers=2, models_per_provider=2, consumers_per_provider=2)


def names(*configured: str) -> Names:
    made = Names()
    made.configure(LIMITS, configured)
    return made


def test_what_is_beyond_a_cap_is_other() -> None:
    some = names()
    placed = [some.place(provider, "", "", NOW).provider for provider in ("a", "b", "c", "a")]
    assert placed == ["a", "b", OTHER, "a"]
    placed = [some.place("a", model, "", NOW).model for model in ("m", "n", "o", "", "m")]
    assert placed == ["m", "n", OTHER, "", "m"]
    placed = [some.place("a", "", consumer, NOW).consumer for consumer in ("x", "y", "z", "", "x")]
    assert placed == ["x", "y", OTHER, "", "x"]
    assert some.place("b", "o", "z", NOW) == Series("b", "o", "z")  # each provider has its own
    assert some.folded == {"provider": 1, "model": 1, "consumer": 1}


def test_a_configured_provider_always_has_a_place_and_takes_nobody_elses() -> None:
    some = names("openai")
    for junk in ("a", "b", "c"):
        some.place(junk, "", "", NOW)
    assert some.place("openai", "m", "", NOW) == Series("openai", "m")
    assert some.providers() == {"a", "b", OTHER, "openai"}


def test_names_without_use_make_room_for_others() -> None:
    some = names()
    for number in range(3):
        some.place(f"junk-{number}", f"m-{number}", "", NOW)
    some.use(Series("junk-0", "m-0"), NOW + 100)
    some.forget_unused(NOW + 50)
    assert some.providers() == {"junk-0"}
    assert some.models("junk-0") == {"m-0"}
    assert some.place("real", "", "", NOW + 100).provider == "real"
    assert some.place("beyond", "", "", NOW + 100).provider == OTHER


def test_a_name_that_was_forgotten_is_known_again_once_it_is_used_at_the_same_time() -> None:
    some = names()
    series = Series("a", "m", "c")
    some.use(series, NOW)
    some.forget("a")
    some.use(series, NOW)
    assert (some.models("a"), some.consumers("a")) == ({"m"}, {"c"})
    some.forget_unused(NOW + 1)
    some.use(series, NOW)
    assert some.providers() == {"a"}


def test_what_is_used_is_known_whatever_the_caps_say() -> None:
    some = names()
    for number in range(4):
        some.use(Series(f"stored-{number}", "m", "c"), NOW)
    assert len(some.providers()) == 4
    assert some.place("new", "", "", NOW).provider == OTHER
    some.forget("stored-0")
    some.forget("stored-1")
    some.forget("stored-2")
    assert some.place("new", "", "", NOW).provider == "new"


@given(st.lists(st.tuples(*[st.sampled_from("abcdef")] * 3), max_size=60))
def test_there_are_never_more_than_the_caps_and_one_other(
    pushed: list[tuple[str, str, str]],
) -> None:
    some = names("f")
    for provider, model, consumer in pushed:
        placed = some.place(provider, model, consumer, NOW)
        assert placed.model in some.models(placed.provider)
        assert placed.consumer in some.consumers(placed.provider)
    assert len(some.providers() - {"f", OTHER}) <= 2
    for provider in some.providers():
        assert len(some.models(provider) - {OTHER}) <= 2
        assert len(some.consumers(provider) - {OTHER}) <= 2


def test_every_provider_that_a_configuration_names_is_one() -> None:
    config = parse(
        "budgets: {a: 1}\n"
        "aliases: {z: b}\n"
        "providers: {c: {probe: {url: 'http://localhost/'}}}\n"
        "rules: [{match: {team: x}, provider: d}]\n",
        "quota.yml",
    )
    assert config.providers == {"a", "b", "c", "d"}
