"""What is released can be installed, checked and run as it is."""

import json
import os
import re
import ssl
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from exporter import __version__
from tests.dashboard_expressions import ROOT
from tests.e2e.running import COMMAND, Exporter
from tests.real import module, program
from tests.storage.servers import free_port

LOCK = (ROOT / "requirements.lock").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
UNIT = ROOT / "config" / "systemd" / "llm-quota-exporter.service"


def run(*command: str | Path, **settings: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made of the sdist."""
    module("build")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, cwd=ROOT)
    return folder


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    tracked = run("git", "ls-files", "exporter", cwd=ROOT).split()
    tracked.remove("exporter/client/pyproject.toml")  # that of another distribution

    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {name for name in tracked if (ROOT / name).exists()}
    assert wheel.name == f"llm_quota_exporter-{__version__}-py3-none-any.whl"


def test_the_sdist_holds_the_licence_and_the_tests(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")

    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/test_release.py"} <= held


def test_the_wheel_runs_in_a_clean_environment_of_the_locked_versions(
    built: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "env")
    pip = (tmp_path / "env" / "bin" / "python", "-m", "pip", "install", "--quiet")
    run(*pip, "--require-hashes", "--requirement", ROOT / "requirements.lock")
    run(*pip, "--no-deps", wheel)
    run(tmp_path / "env" / "bin" / "python", "-m", "pip", "check")

    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = tmp_path / "env" / "bin" / "llm-quota-exporter"
    version = run(command, "--version", cwd=tmp_path, env=clean)
    run(command, "check-config", ROOT / "config" / "quota.yml", cwd=tmp_path, env=clean)
    assert __version__ in version


def test_the_lock_satisfies_every_requirement_and_has_a_hash_for_each() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = re.findall(r"^([\w.-]+)==(\S+)(?: ;.*)? \\\n    --hash=sha256:", LOCK, re.M)
    assert len(locked) == len(re.findall(r"^[a-z]", LOCK, re.M))
    extras = project["optional-dependencies"]
    for text in project["dependencies"] + extras["redis"] + extras["grpc"]:
        wanted = Requirement(text)
        versions = [Version(version) for name, version in locked if name == wanted.name]
        assert versions, text
        assert all(version in wanted.specifier for version in versions), text


def test_the_lock_names_no_host() -> None:
    assert "://" not in LOCK


def test_the_unit_is_a_good_one_and_hardened(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/llm-quota-exporter", COMMAND))

    run(analyze, "verify", "--man=no", unit)
    exposure = run(analyze, "security", "--offline=true", "--threshold=20", unit)
    assert "OK" in exposure


def healthcheck(port: int, prefix: str = "") -> int:
    return subprocess.run(
        [sys.executable, ROOT / "config" / "docker" / "healthcheck.py"],
        env=os.environ | {"HEALTHCHECK_PORT": str(port), "HEALTHCHECK_PREFIX": prefix},
        check=False,
    ).returncode


@pytest.mark.parametrize("client_auth", ["", "  client_auth_type: RequireAndVerifyClientCert\n"])
def test_the_health_check_of_the_image_answers_over_tls(tmp_path: Path, client_auth: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("quota.example", "localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "web.yml").write_text(
        "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
        + (client_auth + "  client_ca_file: ca.pem\n" if client_auth else "")
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    issued.configure_cert(context)

    with Exporter(tmp_path, "", f"--web.config.file={tmp_path}/web.yml", tls=context) as exporter:
        assert healthcheck(exporter.port) == 0


def test_the_health_check_of_the_image_answers_over_http_and_fails_where_nobody_does(
    tmp_path: Path,
) -> None:
    with Exporter(tmp_path) as exporter:
        assert healthcheck(exporter.port) == 0
    assert healthcheck(free_port()) == 1


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_right_that_a_job_does_not_ask_for(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())

    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"], name
        for step in job["steps"]:
            # A tag can be moved to other code, a commit cannot.
            assert re.search(r"@[0-9a-f]{40}$", step.get("uses", "@" + "0" * 40)), name
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
            # An expression in a script is code that somebody else may write.
            assert "${{" not in step.get("run", ""), name


def test_workflows_are_safe() -> None:
    run(Path(COMMAND).with_name("zizmor"), "--offline", "--no-progress", *WORKFLOWS)


def test_only_the_job_that_publishes_may_publish() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]

    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
    assert not any("password" in str(step.get("with", {})) for step in jobs["pypi"]["steps"])
    assert jobs["pypi"]["needs"] == "build"


def test_the_bill_of_materials_lists_what_is_locked(tmp_path: Path) -> None:
    module("cyclonedx_py")
    output = tmp_path / "sbom.json"
    run(
        *(sys.executable, "-m", "cyclonedx_py", "requirements", ROOT / "requirements.lock"),
        *("--pyproject", ROOT / "pyproject.toml", "--output-file", output),
    )
    listed = {one["name"] for one in json.loads(output.read_text())["components"]}

    assert {"starlette", "prometheus-client", "redis"} <= listed


def test_the_chart_and_the_package_have_one_version() -> None:
    chart = yaml.safe_load((ROOT / "config" / "helm" / "Chart.yaml").read_text())

    assert chart["version"] == chart["appVersion"] == __version__
