"""A first configuration, from what is found."""

import argparse
import os
import pty
import select
import subprocess
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.cli.discovery import Found, in_litellm, scalar
from exporter.cli.init import budget, configuration, discover
from exporter.config import parse
from tests.e2e.running import COMMAND, DEADLINE

LITELLM = """\
model_list:
  - {model_name: gpt, litellm_params: {model: openai/gpt-5, api_key: sk-1, tpm: 100000, rpm: 500}}
  - {model_name: gpt-b, litellm_params: {model: openai/gpt-5, api_key: sk-2, tpm: 100000}}
  - {model_name: claude, litellm_params: {model: claude-opus-4}}
  - {model_name: eu, litellm_params: {model: azure/deployment, api_base: "https://x"}}
  - {model_name: odd, litellm_params: {model: unheard-of}}
  - {model_name: none}
router_settings:
  provider_budget_config:
    openai: {budget_limit: 12.5, time_period: 1d}
    anthropic: {budget_limit: 100, time_period: 30d}
    azure: {budget_limit: none, time_period: 1d}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, in which and around which nothing is known."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.endswith("_API_KEY") or name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LLM_QUOTA_EXPORTER_URL", "http://127.0.0.1:1")
    return tmp_path


def found(environment: dict[str, str], litellm: Path | None = None) -> dict[str, Found]:
    options = argparse.Namespace(
        litellm=litellm, url="http://127.0.0.1:1", token_file=None, ca_file=None
    )
    return discover(options, environment)


def test_a_variable_with_a_key_names_a_provider_and_its_secret_shows_nowhere(folder: Path) -> None:
    keys = {"OPENAI_API_KEY": "sk-secret", "GEMINI_API_KEY": "secret", "GROQ_API_KEY": ""}
    text = configuration(found(keys))
    assert "# openai: 2M" in text
    assert "found by OPENAI_API_KEY" in text
    assert "# gemini: 2M" in text
    assert "groq" not in text
    assert "secret" not in text
    assert parse(text, "quota.yml").budgets == {}
    decided = text.replace("# openai", "openai").replace("# gemini", "gemini")
    assert parse(decided, "quota.yml").budgets.keys() == {"openai", "gemini"}


def test_a_litellm_configuration_names_providers_limits_and_budgets(folder: Path) -> None:
    (folder / "litellm_config.yaml").write_text(LITELLM)
    text = configuration(found({}))
    assert "sk-" not in text
    config = parse(text, "quota.yml")
    shown = {
        name: [(one.unit.value, one.amount / one.unit.scale, one.period.name) for one in those]
        for name, those in config.budgets.items()
    }
    assert shown == {
        "openai": [("usd", 12.5, "day")],
        "anthropic": [("usd", 100, "30d")],
    }
    assert "    # - {tokens: 100000, period: minute, model: gpt-5}\n" in text
    assert text.count("{requests: 500, period: minute, model: gpt-5}") == 1
    assert "# azure: 2M" in text
    assert "unheard-of" not in text


@pytest.mark.parametrize(
    "text", ["", "[]", "model_list: 5", "model_list: [5, {litellm_params: 1}]"]
)
def test_an_odd_litellm_configuration_names_nobody(text: str, folder: Path) -> None:
    (folder / "c.yaml").write_text(text)
    assert in_litellm(folder / "c.yaml") == {}


def test_a_litellm_configuration_that_cannot_be_read_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "c.yaml").write_text("a: [")
    for name, told in (("c.yaml", "cannot read it: while parsing"), ("d.yaml", "No such file")):
        assert main(["init", "--litellm", name]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"{name}: cannot read it: ")
        assert told in error
    assert not Path("quota.yml").exists()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("2M", "2M"),
        ("2_000_000 tokens", "2_000_000"),
        ("1e6 per week", "{tokens: 1e6, period: week}"),
        ("250 requests", "{requests: 250, period: day}"),
        ("12.50 usd per month", "{usd: 12.50, period: month}"),
        ("$20", "{usd: 20, period: day}"),
        ("1M tokens per 5h", "{tokens: 1M, period: 5h}"),
    ],
)
def test_an_answer_is_a_budget(answer: str, text: str) -> None:
    assert budget(answer) == text


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("much", "expected 2M, 250 requests, or 500 usd per month, got 'much'"),
        ("0", "expected a positive integer, got 0"),
        ("5 per moon", "period: expected minute, hour, day, week, month or a duration like 5h"),
        ("5 cows", "expected 2M"),
    ],
)
def test_an_answer_that_is_no_budget_is_told(answer: str, told: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        budget(answer)
    assert told in str(error.value)


@pytest.mark.parametrize("name", ["openai", "a b", "5", "null", "on", "x: y", '"', "é", "a#b", "-"])
def test_any_name_is_read_back_as_it_is(name: str) -> None:
    text = configuration({name: Found(["x"], ["5"])})
    assert set(parse(text, "quota.yml").budgets) == {name}
    assert scalar("openai") == "openai"


def test_nothing_found_is_a_configuration_with_examples(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "-"]) == 0
    text = capsys.readouterr().out
    assert parse(text, "quota.yml").budgets == {}
    examples = "".join(line.replace("  # ", "  ", 1) + "\n" for line in text.splitlines())
    assert parse(examples, "quota.yml").budgets.keys() == {"openai", "gemini", "anthropic"}


def test_a_file_that_is_there_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--no-questions"]) == 0
    assert "quota.yml: written; providers found: none" in capsys.readouterr().out
    Path("quota.yml").write_text("mine")
    assert main(["init"]) == 1
    assert capsys.readouterr().err == "quota.yml: expected no file, it is there already\n"
    assert Path("quota.yml").read_text() == "mine"


def test_at_a_terminal_it_asks_until_it_understands(folder: Path) -> None:
    here, there = pty.openpty()
    environment = {**os.environ, "OPENAI_API_KEY": "sk-secret", "TERM": "dumb"}
    with subprocess.Popen(
        [COMMAND, "init"], stdin=there, stdout=there, stderr=there, env=environment
    ) as one:
        os.close(there)
        seen = ""
        for answer in ("much", "500 usd per month"):
            while not seen.rstrip().endswith(":"):
                assert select.select([here], [], [], DEADLINE)[0]
                seen += os.read(here, 4096).decode()
            seen = ""
            os.write(here, answer.encode() + b"\n")
        while one.poll() is None:
            if select.select([here], [], [], 0.1)[0]:
                try:
                    os.read(here, 4096)
                except OSError:  # it hung up
                    break
        assert one.wait(DEADLINE) == 0
    os.close(here)
    assert "  openai: {usd: 500, period: month}" in (folder / "quota.yml").read_text()
