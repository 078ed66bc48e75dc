"""`differential.json` in a profile folder: what `segkit profile` measured beyond a run's records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segkit.files import read_json, write_json
from segkit.profiling.records import from_plain
from segkit.profiling.summary import Differential, Interval, Stalls, Variant, Verification, WorkerPoint

FILE = "differential.json"


def write_differential(folder: Path, differential: Differential) -> None:
    """Write it, atomically."""
    write_json(folder / FILE, asdict(differential))


def read_differential(folder: Path) -> Differential | None:
    """Read it; None where there is none."""
    if not (folder / FILE).exists():
        return None
    values = dict(read_json(folder / FILE))
    stalls = _with_intervals(values["stalls"], "compute", "warm", "cold", "prep_stall", "fetch_stall", "copy_share")
    verification = values.get("verification")
    return Differential(
        stalls=from_plain(Stalls, stalls),
        curve=[from_plain(WorkerPoint, _with_intervals(point, "images_per_s")) for point in values["curve"]],
        verification=from_plain(Verification, _with_intervals(verification, "measured")) if verification else None,
        settings=values["settings"],
        variants=[from_plain(Variant, _with_intervals(one, "images_per_s")) for one in values.get("variants", [])],
    )


def _with_intervals(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    made = {name: from_plain(Interval, values[name]) for name in names if values.get(name) is not None}
    return {**values, **made}
