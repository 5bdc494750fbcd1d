"""Files that an operator names and that are no ordinary files, and secrets where a name belongs."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.cli.settings import read
from exporter.config import MAX_BYTES, ConfigError, files, load
from exporter.config.files import check_file, read_file
from exporter.web.toolkit.tls import TlsSettings, build_context
from tests.e2e.running import command

SECRET = "sk-proj-Ax92/secret+Key="


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe to which nobody writes: opening it as a file waits for ever."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1)


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A file of 2 GB that takes no room."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    return path


def test_check_config_ends_whatever_the_file_is(pipe: Path, huge: Path) -> None:
    good = pipe.with_name("good.yml")
    good.write_text("budgets: {a: 5}\n")
    done = command("check-config", pipe, "/dev/zero", pipe.parent, huge, good)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{pipe}: cannot read it: a pipe that does not end within 5 s",
        "/dev/zero: cannot read it: more than 8_388_608 bytes",
        f"{pipe.parent}: cannot read it: Is a directory",
        f"{huge}: cannot read it: more than 8_388_608 bytes",
    ]
    assert done.stdout == f"{good}: good, 1 providers with 1 budgets\n"


def test_what_comes_through_a_pipe_to_its_end_is_read() -> None:
    done = command("check-config", "/dev/stdin", stdin="budgets: {a: 5}\n")
    assert done.stdout == "/dev/stdin: good, 1 providers with 1 budgets\n"


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"#" * 1000)
    assert read_file(file, 1000) == b"#" * 1000
    with pytest.raises(OSError, match="more than 999 bytes"):
        read_file(file, 999)


def tokens_file(path: Path) -> str:
    return f"authentication: {{tokens: [{{name: x, file: '{path}', rights: [push]}}]}}\n"


def headers_file(path: Path) -> str:
    return f"providers: {{a: {{probe: {{url: 'http://x', headers_file: '{path}'}}}}}}\n"


def prices_file(path: Path) -> str:
    return f"prices_file: '{path}'\n"


@pytest.fixture(params=[tokens_file, headers_file, prices_file])
def naming(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """A configuration that names a file."""
    return request.param


@pytest.mark.usefixtures("impatient")
def test_a_named_file_has_to_be_one(tmp_path: Path, naming: Callable[[Path], str]) -> None:
    config = tmp_path / "quota.yml"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in (
        (pipe, "a pipe"),
        (Path("/dev/zero"), "a device|more than"),
        (tmp_path, "Is a directory"),
    ):
        config.write_text(naming(path))
        with pytest.raises(ConfigError, match=reason):
            load(config)


def test_a_secret_of_gigabytes_is_refused(huge: Path) -> None:
    config = huge.with_name("quota.yml")
    config.write_text(tokens_file(huge))
    with pytest.raises(OSError, match="more than 65_536 bytes"):
        read(config, None)


@pytest.mark.usefixtures("impatient")
def test_the_web_configuration_and_its_certificates_have_to_be_files(pipe: Path) -> None:
    config, web = pipe.with_name("quota.yml"), pipe.with_name("web.yml")
    config.touch()
    with pytest.raises(ConfigError, match=r"pipe: cannot read it: a pipe that does not end"):
        read(config, pipe)
    web.write_text("tls_server_config: {cert_file: pipe, key_file: pipe}\n")
    with pytest.raises(ConfigError, match="not a file but a pipe or a device"):
        read(config, web)
    with pytest.raises(OSError, match="not a file but a pipe or a device"):
        build_context(TlsSettings(pipe, pipe))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as refused:
        check_file(tmp_path / "missing")
    assert refused.value.filename == str(tmp_path / "missing")


@pytest.mark.parametrize(
    "config",
    [
        f"authentication: {{tokens: [{{name: x, file: '{SECRET}', rights: [push]}}]}}",
        f"authentication: {{tokens: [{{name: x, file: '/{SECRET}', rights: [push]}}]}}",
        f"authentication: {{tokens: [{{name: x, file: '{SECRET * 30}', rights: [push]}}]}}",
        f'authentication: {{tokens: [{{name: x, file: "{SECRET}\\n", rights: [push]}}]}}',
        f"authentication: {{tokens: [{{name: x, file: [{SECRET}], rights: [push]}}]}}",
        f"authentication: {{tokens: [{{name: x, file: *{SECRET}, rights: [push]}}]}}",
        f"providers: {{a: {{probe: {{url: 'http://x', headers_file: '{SECRET}'}}}}}}",
        f"providers: {{a: {{probe: {{url: 'http://x', headers_file: 'A: {SECRET}'}}}}}}",
        f"providers: {{a: {{probe: {{url: 'http://x', headers: {{A: *{SECRET}}}}}}}}}",
        f"providers: {{a: {{probe: {{url: 'http://x', headers: {{A: &{SECRET}}}}}}}}}",
    ],
)
def test_a_secret_where_the_name_of_its_file_belongs_is_not_shown(
    tmp_path: Path, config: str
) -> None:
    file = tmp_path / "quota.yml"
    file.write_text(config)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert not re.search("sk-proj|secret[+]", str(refused.value)), refused.value


def test_a_configuration_may_be_as_large_as_is_said(tmp_path: Path) -> None:
    file = tmp_path / "quota.yml"
    file.write_text("#" * (MAX_BYTES - 1) + "\n")
    load(file)
