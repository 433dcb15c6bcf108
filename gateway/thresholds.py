"""Which thresholds hold: those that the settings give, else those fitted with the classifier. Compares no scores."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from gateway.settings import RouterSettings
from router import Thresholds


class UnknownDomain(ValueError):
    """The settings name a domain that the classifier does not have."""


def thresholds_of(settings: RouterSettings, labels: Sequence[str], fitted: Thresholds) -> Thresholds:
    """Return the thresholds in effect: what the settings say, else what was fitted with the classifier.

    Args:
        settings: the section `router`.
        labels: the classifier's domains.
        fitted: its own thresholds.

    Raises:
        UnknownDomain: a threshold is set for a domain that is not among `labels`; the message says which.
    """
    check_domains("router.thresholds", settings.thresholds, labels)
    everywhere = settings.minimum_confidence
    return Thresholds(
        confidence={**({} if everywhere is not None else fitted.confidence), **settings.thresholds},
        default_confidence=_first(everywhere, fitted.default_confidence),
        margin=_first(settings.minimum_margin, fitted.margin),
        out_of_domain=_first(settings.maximum_out_of_domain, fitted.out_of_domain),
        disagreement=_first(settings.maximum_disagreement, fitted.disagreement),
    )


def check_domains(section: str, named: Iterable[str], labels: Sequence[str]) -> None:
    """Refuse domains that nobody would ever be in.

    Raises:
        UnknownDomain: one of `named` is not among `labels`; the message says which, and in which section it stands.
    """
    unknown = next((domain for domain in named if domain not in labels), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, labels, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownDomain(
            f"{section}.{unknown}: the classifier has no such domain; {hint}it has: {', '.join(labels)}"
        )


def _first(setting: float | None, fitted: float) -> float:
    return fitted if setting is None else setting
