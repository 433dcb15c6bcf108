"""The documentation says what the code does: every setting, header, reason, error, metric and field is on the page."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway import errors, policies, strategies
from gateway.context import RouteRecord
from gateway.metrics import Metrics
from gateway.settings import DENIED_FIELDS, GeneralistSettings, Settings
from gateway.settings_file import parse
from gateway.types import Endpoint, Reason

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "gateway" / "REFERENCE.md").read_text()
README = (ROOT / "README.md").read_text()


def setting_rows(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Every setting's dotted name and description; experts as `experts.NAME`."""
    rows: dict[str, str] = {}
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        nested = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if nested is GeneralistSettings:
            continue
        if nested is None:
            rows[f"{prefix}{name}"] = field.description or ""
        else:
            named = ".NAME" if name in ("experts", "keys", "domains") else ""
            rows |= setting_rows(nested, f"{prefix}{name}{named}.")
    return rows


@pytest.mark.parametrize(("name", "description"), setting_rows(Settings).items())
def test_reference_has_every_setting_with_its_own_words(name: str, description: str) -> None:
    row = next((line for line in REFERENCE.splitlines() if line.startswith(f"| `{name}` |")), "")
    assert description in row, f"{name} is missing or says something else"


def test_reference_names_no_setting_that_is_gone() -> None:
    sections = {name.split(".")[0] for name in setting_rows(Settings)} - {"currency"}
    named = re.findall(rf"^\| `((?:{'|'.join(sections)})\.[\w.]+)` \|", REFERENCE, re.MULTILINE)
    assert set(named) <= set(setting_rows(Settings))
    assert len(named) > 40


@pytest.mark.parametrize("reason", list(Reason))
def test_reference_has_every_reason(reason: Reason) -> None:
    assert f"| `{reason}` |" in REFERENCE


@pytest.mark.parametrize("name", DENIED_FIELDS)
def test_reference_has_every_denied_field(name: str) -> None:
    assert f"`{name}`" in REFERENCE


@pytest.mark.parametrize("name", policies.names())
def test_reference_has_every_policy(name: str) -> None:
    assert f"| `{name}` |" in REFERENCE


@pytest.mark.parametrize("name", strategies.names())
def test_reference_has_every_strategy_with_its_options_and_defaults(name: str) -> None:
    section = REFERENCE.partition("\n### Strategies\n")[2].partition("\n## ")[0]
    assert f"| `{name}` |" in section
    for option, field in strategies.strategy_class(name).model_fields.items():
        row = next((line for line in section.splitlines() if line.startswith(f"| `{name}.{option}` |")), "")
        assert (field.description or "") in row, f"{name}.{option} is missing or says something else"
        assert option == "template" or row.split(" | ")[1].strip("`") == shown(field.default), row


def shown(default: object) -> str:
    return {"()": "[]", "True": "true"}.get(str(default), str(default))


@pytest.mark.parametrize("why", list(strategies.Skip))
def test_reference_has_every_reason_to_skip_a_strategy(why: strategies.Skip) -> None:
    assert f"| `skipped:{why}` |" in REFERENCE


def test_reference_has_every_error_code() -> None:
    sources = [path.read_text() for path in (ROOT / "gateway").rglob("*.py") if "sim" not in path.parts]
    codes = {code for text in sources for code in re.findall(r'\bcode(?:: str)? ?= ?"(\w+)"', text)}
    assert {"upstream_reset", "unknown_policy", "internal_error"} <= codes
    missing = {code for code in codes if f"`{code}`" not in REFERENCE}
    assert not missing
    assert issubclass(errors.UpstreamTimeout, errors.UpstreamError)


def test_reference_has_every_metric_with_its_labels() -> None:
    for collector in Metrics().registry.collect():
        kind = "_total" if collector.type == "counter" else ""
        row = next((line for line in REFERENCE.splitlines() if line.startswith(f"| `{collector.name}{kind}` |")), None)
        assert row is not None, collector.name


@pytest.mark.parametrize("field", [field.name for field in fields(RouteRecord)])
def test_reference_has_every_record_field(field: str) -> None:
    assert f"`{field}`" in REFERENCE.partition("## The record")[2]


def test_reference_has_every_header() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py") if "sim" not in path.parts)
    headers = set(re.findall(r"x-(?:pointsman|request|should)-[a-z-]+", sources))
    assert len(headers) > 8
    assert not {header for header in headers if f"`{header}`" not in REFERENCE and f"`{header}:" not in REFERENCE}


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_reference_has_every_endpoint(endpoint: Endpoint) -> None:
    assert f"`{endpoint.path}`" in REFERENCE or f"`POST {endpoint.path}`" in REFERENCE


def test_readme_configuration_is_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        assert parse(block).experts


def test_readme_commands_exist() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    used = set(re.findall(r"pointsman (serve|check|route|sim|demo|train|evaluate)\b", README))
    assert {"serve", "check", "route", "train", "evaluate"} <= used
    assert all(f" {command} " in help_text for command in used)
    targets = set(re.findall(r"\bmake ([a-z-]+)", README))
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_readme_links_point_to_files() -> None:
    links = re.findall(r"\]\((?!http|#)([^)#]+)", README)
    assert len(links) > 3
    assert all((ROOT / link).exists() for link in links), links
