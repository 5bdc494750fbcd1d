"""Writes the rules of the mixin as Prometheus reads them: `python -m grafana.rules`."""

import json
from pathlib import Path
from typing import Any

import _jsonnet
import yaml

CONFIG = Path(__file__).resolve().parent.parent / "config"
HEADER = """\
# Built from config/mixin by `python -m grafana.rules`. The reasons stand there.
"""


class _Dumper(yaml.SafeDumper):
    """Keeps the order of keys, and writes expressions as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else ">" if len(text) > 90 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)

KEYS = ("alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations")
TEXTS = ("summary", "description", "runbook_url", "dashboard_url")


def evaluated(field: str, **config: Any) -> Any:
    """A field of the mixin, as it is with these settings of `_config`."""
    path = CONFIG / "mixin" / "mixin.libsonnet"
    snippet = f"((import {json.dumps(str(path))}) + {{ _config+:: {json.dumps(config)} }}).{field}"
    return json.loads(_jsonnet.evaluate_snippet("mixin", snippet))


def as_yaml(rules: dict[str, Any]) -> str:
    """Groups of rules as a file of Prometheus."""
    groups = [
        {"name": group["name"], "rules": [_ordered(rule) for rule in group["rules"]]}
        for group in rules["groups"]
    ]
    text: str = yaml.dump(
        {"groups": groups}, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True
    )
    return HEADER + text


def _ordered(rule: dict[str, Any]) -> dict[str, Any]:
    found = {key: rule[key] for key in KEYS if key in rule}
    if "annotations" in rule:
        found["annotations"] = {key: rule["annotations"][key] for key in TEXTS}
    return found


FILES = {"alerts.yml": "prometheusAlerts", "recording.yml": "prometheusRules"}


if __name__ == "__main__":
    for name, field in FILES.items():
        (CONFIG / "rules" / name).write_text(as_yaml(evaluated(field)))
