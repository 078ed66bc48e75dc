"""Figures as text, the same in every report. A figure that is not there is a dash, never 0 and never "nan"."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable

from segkit.profiling.summary import Interval

NONE = "–"


def known(value: float | None) -> float | None:
    """`value`, or None where it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def number(value: float | None, unit: str = "") -> str:
    """Three significant digits and no exponent: 0.00412, 4.56, 45.6, 1,234."""
    value = known(value)
    if value is None:
        return NONE
    size = abs(value)
    digits = 0 if size >= 100 or not size else max(0, 2 - math.floor(math.log10(size)))
    return f"{value:,.{min(digits, 6)}f}" + (f" {unit}" if unit else "")


def share(value: float | None) -> str:
    """A share from 0 to 1 as per cent."""
    value = known(value)
    if value is None:
        return NONE
    if 0 < abs(value) < 0.001:
        return "< 0.1 %"
    return f"{100 * value:.1f} %"


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds, with the unit."""
    value = known(seconds)
    return NONE if value is None else number(1000 * value, "ms")


def duration(seconds: float | None) -> str:
    """Seconds as a reader says them: 42.0 ms, 4.21 s, 45.2 s, 12 min 3 s, 7 h 5 min."""
    value = known(seconds)
    if value is None:
        return NONE
    if value < 1:
        return milliseconds(value) if value else "0 s"
    if value < 99.5:
        return number(value, "s")
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(value / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def gib(size: float | None) -> str:
    """Bytes as GiB."""
    value = known(size)
    return NONE if value is None else number(value / 2**30, "GiB")


def megabytes_a_second(rate: float | None) -> str:
    """Bytes a second as MB/s."""
    value = known(rate)
    return NONE if value is None else number(value / 1e6, "MB/s")


def clock(t: float | None) -> str:
    """Unix time as date and time in UTC."""
    value = known(t)
    if value is None:
        return NONE
    return datetime.datetime.fromtimestamp(value, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def interval(figure: Interval | None, say: Callable[[float | None], str] = number) -> str:
    """A figure with its 95 % interval in brackets, where it has one: 812 [790, 834]."""
    if figure is None:
        return NONE
    low, high = known(figure.low), known(figure.high)
    if low is None or high is None:
        return say(figure.value)
    return f"{say(figure.value)} [{say(low)}, {say(high)}]"


def processes(*, timed: bool) -> tuple[str, str]:
    """What the sampled process and those that it started are called: of a training, or of any program."""
    return ("training process", "loader workers") if timed else ("the program", "processes it started")


def count(amount: int, thing: str) -> str:
    """`1 step`, `1,234 steps`."""
    return f"{amount:,} {thing}" + ("" if amount == 1 else "s")


def one_line(text: object, longest: int = 0) -> str:
    """Text from outside on one line without control characters, cut with an ellipsis where it is longer."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return clean[: longest - 1] + "…" if longest and len(clean) > longest else clean
