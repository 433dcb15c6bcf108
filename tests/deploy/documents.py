"""Reads the deployment files as data for the tests. Asserts nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
DEMO = DEPLOY / "compose.demo.yaml"
CONFIG_IN_IMAGE = "/etc/pointsman/experts.yaml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rule>:[-?])?(?P<text>[^}]*)\}")

Service = dict[str, Any]


def services(file: Path) -> dict[str, Service]:
    """A compose file's services, merge keys applied."""
    found: dict[str, Service] = yaml.safe_load(file.read_text())["services"]
    return found


def with_defaults(text: str) -> str:
    """Put every variable's default in its place; one without a default becomes the empty string."""
    return VARIABLE.sub(lambda match: match["text"] if match["rule"] == ":-" else "", text)


def config_of(service: Service) -> Path:
    """The configuration file on this side of the service's bind mount."""
    (mount,) = (volume for volume in service["volumes"] if f":{CONFIG_IN_IMAGE}:" in volume)
    return (DEPLOY / str(mount).split(":")[0]).resolve()


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: keyword and the rest, continuation lines joined."""
    lines = (line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    text = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]
