"""How pages write numbers, times and money. Filters for templates; pure."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup, escape

NOTHING = "\u2013"
_STEPS_S = ((86_400, "d"), (3_600, "h"), (60, "min"))


def number(value: float | None, digits: int = 0) -> str:
    """Return a number with thin spaces between thousands; a dash for None."""
    return NOTHING if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def compact(value: float | None) -> str:
    """Return a number in three figures: 999, 1.23 k, 12.3 M."""
    if value is None:
        return NOTHING
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}\u202f{unit}"
    return f"{value:.3g}" if value % 1 else f"{value:.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share, 0 to 1, in per cent."""
    return NOTHING if share is None else f"{100 * share:.{digits}f}\u202f%"


def seconds(value: float | None) -> str:
    """Return a time in the unit that suits it: us, ms, s, min, h, d."""
    if value is None:
        return NOTHING
    if value < 0.001:
        return f"{value * 1e6:.0f}\u202fus"
    if value < 1:
        return f"{value * 1e3:.3g}\u202fms"
    if value < 120:
        return f"{value:.3g}\u202fs"
    for length, unit in _STEPS_S:
        if value >= length:
            return f"{value / length:.3g}\u202f{unit}"
    return f"{value:.0f}\u202fs"


def money(value: float | None, currency: str) -> str:
    """Return an amount with as many digits as small amounts need."""
    if value is None:
        return NOTHING
    digits = 2 if abs(value) >= 1 or value == 0 else 4 if abs(value) >= 0.001 else 6
    return f"{value:,.{digits}f}".replace(",", "\u202f") + f"\u202f{currency}"


def size(value: float | None) -> str:
    """Return bytes in binary units."""
    if value is None:
        return NOTHING
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= limit:
            return f"{value / limit:.3g}\u202f{unit}"
    return f"{value:.0f}\u202fB"


def moment(at_s: float | datetime | None) -> Markup:
    """Return a point in time, UTC, as a `<time>`; seconds since the epoch or a datetime."""
    if at_s is None:
        return Markup(NOTHING)
    at = at_s if isinstance(at_s, datetime) else datetime.fromtimestamp(at_s, UTC)
    at = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="milliseconds"), f"{at:%Y-%m-%d %H:%M:%S}"
    )


def moment_us(at_us: int | None) -> Markup:
    """Return the same of microseconds since the epoch."""
    return moment(None if at_us is None else at_us / 1e6)


def words(name: str | None) -> str:
    """Return an identifier as words: `low_confidence` becomes "low confidence"."""
    return NOTHING if not name else str(name).replace("_", " ")


def or_dash(value: object) -> Markup:
    """Return a text, or a dash where there is none."""
    return Markup(NOTHING) if value is None or value == "" else escape(value)


FILTERS = {
    "number": number,
    "compact": compact,
    "percent": percent,
    "seconds": seconds,
    "money": money,
    "size": size,
    "moment": moment,
    "moment_us": moment_us,
    "words": words,
    "or_dash": or_dash,
}
