"""Splits by patient, stratified by institution, with a checksum; k folds too.

Neighbouring slices of one patient are near copies, so a split by slice would test on what was trained on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from segkit.data.cases import Case
from segkit.errors import ConfigError, FileError, SegkitError
from segkit.files import read_json, sha256_of, write_json

PARTS = ("train", "val", "test")
_FOLD_VAL = 0.15  # of the patients of a fold that are not tested on


@dataclass(frozen=True, slots=True)
class Split:
    """Names of the patients of each part, sorted; no patient is in two."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    seed: int

    @property
    def sha256(self) -> str:
        """Of the canonical JSON of the three sorted lists: who is where, however it came about."""
        return sha256_of({part: sorted(getattr(self, part)) for part in PARTS})

    def save(self, path: Path) -> None:
        """Write the split as JSON, atomically."""
        lists = {part: list(getattr(self, part)) for part in PARTS}
        write_json(path, {"seed": self.seed, **lists, "sha256": self.sha256})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a split.

        Raises:
            FileError: absent, no split, a patient twice, or lists that do not match the checksum.
        """
        value = read_json(path)
        if not isinstance(value, dict) or not all(_is_names(value.get(part)) for part in PARTS):
            raise FileError(path, "is no split (it needs lists of patients: train, val, test)")
        names = [name for part in PARTS for name in value[part]]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise FileError(path, f"has patients in two places: {', '.join(twice[:5])}")
        seed = value.get("seed", 0)
        train, val, test = (tuple(sorted(value[part])) for part in PARTS)
        split = cls(train, val, test, seed if isinstance(seed, int) else 0)
        if value.get("sha256") != split.sha256:
            remedy = "write it anew with `segkit data split`; a run is compared by this checksum"
            raise FileError(path, "was changed after it was written (its checksum does not match)", remedy)
        return split


def make_split(cases: Iterable[Case], *, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0) -> Split:
    """Divide the patients into train, val and test in these proportions, in each institution alike.

    The sizes of the parts are the largest-remainder rounding of the proportions; within them each
    institution gets its share, rounded so that rows and columns add up. The choice depends on the names
    and the seed alone: not on the order of the cases, the platform, or a library's version.

    Raises:
        ConfigError: fractions that are not three positive numbers with sum 1.
        SegkitError: fewer than three patients.
    """
    if (
        len(fractions) != len(PARTS)
        or not all(0 < fraction < 1 for fraction in fractions)
        or abs(sum(fractions) - 1) > 1e-6
    ):
        raise ConfigError("fractions", tuple(fractions), "three numbers above 0 that add up to 1")
    institutions = _institutions(cases)
    patients = sum(len(names) for names in institutions.values())
    if patients < len(PARTS):
        raise SegkitError(f"a split needs at least 3 patients (train, val, test), here are {patients}")
    parts = _divide(institutions, fractions, seed)
    return Split(parts[0], parts[1], parts[2], seed)


def k_folds(cases: Iterable[Case], k: int, *, seed: int = 0) -> list[Split]:
    """k splits in which each patient is tested exactly once; 15 % of the others are val.

    Folds differ by at most one patient in size, in all and in each institution.

    Raises:
        ConfigError: k below 2, or so large that a fold would be empty.
        SegkitError: too few patients to leave one for train and one for val.
    """
    institutions = _institutions(cases)
    patients = sum(len(names) for names in institutions.values())
    if not 2 <= k <= patients:
        raise ConfigError("folds", k, f"2 to {patients}, the number of patients")
    if patients - math.ceil(patients / k) < 2:
        raise SegkitError(f"{k} folds of {patients} patients leave too few for train and val")
    dealt = [name for names in _shuffled(institutions, seed).values() for name in names]
    splits = []
    for fold in range(k):
        test = set(dealt[fold::k])
        rest = {key: [name for name in names if name not in test] for key, names in institutions.items()}
        train, val = _divide(rest, (1 - _FOLD_VAL, _FOLD_VAL), seed + fold)
        splits.append(Split(train, val, tuple(sorted(test)), seed))
    return splits


def _institutions(cases: Iterable[Case]) -> dict[str, list[str]]:
    """Sorted patients of each institution, institutions sorted; two cases of one patient count once."""
    of_patient = {case.patient: case.institution for case in cases}
    result: dict[str, list[str]] = {key: [] for key in sorted(set(of_patient.values()))}
    for patient in sorted(of_patient):
        result[of_patient[patient]].append(patient)
    return result


def _divide(
    institutions: Mapping[str, list[str]], fractions: Sequence[float], seed: int
) -> tuple[tuple[str, ...], ...]:
    sizes = {key: len(names) for key, names in institutions.items() if names}
    totals = _totals(sum(sizes.values()), fractions)
    table = _table(sizes, totals, seed)
    parts: list[list[str]] = [[] for _ in fractions]
    for key, names in _shuffled(institutions, seed).items():
        start = 0
        for part, count in enumerate(table.get(key, [])):
            parts[part] += names[start : start + count]
            start += count
    return tuple(tuple(sorted(part)) for part in parts)


def _totals(patients: int, fractions: Sequence[float]) -> list[int]:
    """Size of each part by largest remainder, none empty."""
    quotas = [patients * fraction for fraction in fractions]
    totals = [math.floor(quota + 1e-9) for quota in quotas]
    # Rounded, so that 0.15 * 20 and its like do not decide ties by their last bit.
    order = sorted(range(len(quotas)), key=lambda part: (-round(quotas[part] - totals[part], 9), part))
    for part in order[: patients - sum(totals)]:
        totals[part] += 1
    while min(totals) == 0:
        totals[totals.index(max(totals))] -= 1
        totals[totals.index(0)] += 1
    return totals


def _table(sizes: Mapping[str, int], totals: Sequence[int], seed: int) -> dict[str, list[int]]:
    """Patients of each institution in each part, with the given row and column sums.

    Proportional shares are rounded down; the rest goes to the largest remainders that row and column
    still have room for. Small institutions share one pool of seats, so they cannot all land in train.
    """
    patients = sum(sizes.values())
    table = {key: [size * total // patients for total in totals] for key, size in sizes.items()}
    rows = {key: size - sum(table[key]) for key, size in sizes.items()}
    columns = [total - sum(row[part] for row in table.values()) for part, total in enumerate(totals)]
    cells = sorted(
        ((key, part) for key in sizes for part in range(len(totals))),
        key=lambda cell: (-(sizes[cell[0]] * totals[cell[1]] % patients), _number(seed, *cell)),
    )
    for most in (
        1,
        max(sizes.values(), default=0),
    ):  # then once more without a limit: it always comes out even
        for key, part in cells:
            seats = min(rows[key], columns[part], most)
            table[key][part] += seats
            rows[key] -= seats
            columns[part] -= seats
    return table


def _shuffled(institutions: Mapping[str, list[str]], seed: int) -> dict[str, list[str]]:
    return {key: sorted(names, key=lambda name: (_number(seed, name), name)) for key, names in institutions.items()}


def _number(seed: int, *words: object) -> int:
    """A number from the seed and words: a random order that no library's version can change."""
    text = "\0".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
