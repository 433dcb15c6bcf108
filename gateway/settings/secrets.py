"""Secrets: the environment variables that settings name. The only module that reads the environment."""

from __future__ import annotations

import os


class MissingSecret(ValueError):
    """A configured environment variable is not set."""


def secret(variable: str | None) -> str | None:
    """Read a secret from the environment variable a setting names.

    Raises:
        MissingSecret: the variable is unset or empty.
    """
    if variable is None:
        return None
    value = os.environ.get(variable, "").strip()
    if not value:
        raise MissingSecret(f"environment variable {variable} is not set")
    return value


def hand_over(variable: str, value: str) -> None:
    """Set an environment variable of this process, for what has made a secret of its own: the demo."""
    os.environ[variable] = value
