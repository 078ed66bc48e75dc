"""The dataset of a run, resolved: which cases, which split, which frame, which rows."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from segkit.data.cases import CaseSet
from segkit.data.config import DataConfig
from segkit.data.layouts import SeveralDatasetsError, find_cases
from segkit.data.phantom import write_phantom
from segkit.data.read import without
from segkit.data.split import Split, make_split
from segkit.data.stores import Store, open_store
from segkit.data.survey import Frame, Survey, UnreadableSlices, all_refs, choose_frame
from segkit.errors import FileError, SegkitError
from segkit.resources import cache_folder

PHANTOM = Path("phantom")


@dataclass(frozen=True)
class TrainingData:
    """Slices as rows of one store; `rows` and `patient` refer to the order of `survey.all_refs`."""

    case_set: CaseSet
    split: Split
    frame: Frame
    store: Store
    survey: Survey
    patient: np.ndarray  # int64 [N]: index into case_set.cases

    def rows(self, part: str) -> np.ndarray:
        """int64: the rows of "train", "val" or "test"."""
        wanted = set(getattr(self.split, part))
        chosen = [i for i, case in enumerate(self.case_set.cases) if case.patient in wanted]
        return np.flatnonzero(np.isin(self.patient, chosen))

    def name_rows(self, rows: np.ndarray) -> list[str]:
        """The image files (with the slice's number in a volume) of some rows, for messages."""
        refs = all_refs(self.case_set)
        return [f"{refs[i].images[0]}" + (f" [{refs[i].index}]" if refs[i].index else "") for i in rows]


def locate(data: str) -> Path:
    """The dataset folder: as given, else SEGKIT_DATA, else one found in the working directory, else a phantom.

    Raises:
        FileError: a folder was named, but is absent; or there are several datasets here.
    """
    named = data or os.environ.get("SEGKIT_DATA", "")
    if named:
        if not Path(named).is_dir():
            raise FileError(named, "is not a folder", "give the dataset's folder with --data or SEGKIT_DATA")
        return Path(named)
    found = _found_here()
    if found is None:
        write_phantom(PHANTOM)
    if found is None or found == PHANTOM.absolute():
        where = f"using a synthetic phantom ({PHANTOM}/)"
        print(f"segkit: no --data, no SEGKIT_DATA, no dataset here: {where}", file=sys.stderr)
    return found or PHANTOM


def _found_here() -> Path | None:
    """The one dataset in the working directory; a phantom of an earlier run gives way to any other."""
    try:
        return find_cases(Path.cwd()).root
    except SeveralDatasetsError as error:
        others = [path for path in error.found if path != PHANTOM.absolute()]
        if len(others) == 1:
            return others[0]
        raise
    except SegkitError:
        return None


def open_dataset(config: DataConfig, *, runs: Path, device: torch.device, seed: int, say: bool = True) -> TrainingData:
    """Find, check and open the dataset of a run.

    Raises:
        FileError: no dataset, or a slice that cannot be read (unless `skip_bad`, which leaves it out).
        SegkitError: a split that does not fit the dataset.
    """
    case_set = find_cases(Path(config.data))
    if case_set.problems and not config.skip_bad:
        raise UnreadableSlices(list(case_set.problems))
    frame = choose_frame(case_set, config.size, config.fit)
    cache = cache_folder(runs)
    try:
        store, survey = open_store(config.loader, case_set, frame, cache, device)
    except UnreadableSlices as error:
        if not config.skip_bad:
            raise
        case_set = without(case_set, error.problems)
        store, survey = open_store(config.loader, case_set, frame, cache, device)
    if say:
        for problem in case_set.problems:
            print(f"segkit: left out: {problem}", file=sys.stderr)
    split = Split.load(Path(config.split)) if config.split else make_split(case_set.cases, seed=seed)
    patient = np.repeat(np.arange(len(case_set.cases)), [len(case.slices) for case in case_set.cases])
    data = TrainingData(case_set, split, frame, store, survey, patient)
    _check_split(data, config.split)
    return data


def _check_split(data: TrainingData, name: str) -> None:
    known = {case.patient for case in data.case_set.cases}
    missing = [p for p in (*data.split.train, *data.split.val, *data.split.test) if p not in known]
    if missing and not data.case_set.problems:
        raise FileError(
            name,
            f"names {len(missing)} patients that the dataset lacks (first: {missing[0]})",
            "use its own split",
        )
    for part in ("train", "val"):
        if not len(data.rows(part)):
            raise SegkitError(f"{name or data.case_set.root}: the {part} split has no slices; use more patients")
