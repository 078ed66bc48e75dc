"""The report as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from segkit.profiling.summary import RunSummary, summary_to_plain

# A list of numbers, which is written on one line: a day's samples are many. No string holds a line's end.
_NUMBERS = re.compile(r"\[\n([-+\d.eE,\snul]*)\]")


def to_json(summaries: Sequence[RunSummary]) -> str:
    """One run as an object, several as a list of objects; what is not a finite number is null."""
    values = [finite(summary_to_plain(summary)) for summary in summaries]
    whole = values[0] if len(values) == 1 else values
    text = json.dumps(whole, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return _NUMBERS.sub(lambda found: "[" + " ".join(found.group(1).split()) + "]", text)


def finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
