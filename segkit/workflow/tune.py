"""Choose what suits a net in volumes, on patients that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from segkit.data.split import Split
from segkit.errors import SegkitError
from segkit.imaging.scan import Scan
from segkit.inference.postprocess import LesionSize, components
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.smoothing import smoothed
from segkit.inference.volume_rule import VolumeRule
from segkit.metrics.bootstrap import mean_interval
from segkit.metrics.confusion import Counts, confusion
from segkit.metrics.conventions import foreground_dice
from segkit.runs import RunDirectory
from segkit.training.evaluate import scan_of
from segkit.workflow.evaluate_run import cases_for, open_subject

SMOOTH = (0.0, 0.6, 0.8, 1.0)
THRESHOLDS = (None, 0.1, 0.2, 0.3, 0.4)
LEAST = tuple(LesionSize.parse(text) for text in ("0", "5%", "10%", "20%"))
FLIP_WORTH = 0.005  # of mean Dice: what seeing each slice twice must bring, for it doubles the time

# A voxel's foreground must be more probable than this somewhere in its column of slices for any rule to mark it:
# a mean over slices is no more than their largest, and without a threshold the foreground has half or more.
_LEAST_LIKELY = min(threshold for threshold in THRESHOLDS if threshold is not None)

PLAIN = VolumeRule()
RULES = tuple(
    VolumeRule(flip, smooth, threshold, least)
    for flip, smooth, threshold, least in product((False, True), SMOOTH, THRESHOLDS, LEAST)
)


@dataclass(frozen=True)
class Trial:
    """Every rule on every patient: Dice of the foreground of each patient's volume, `[rules, patients]`."""

    patients: tuple[str, ...]
    dice: NDArray[np.float64]

    def of(self, rule: VolumeRule) -> NDArray[np.float64]:
        """Of each patient."""
        return np.asarray(self.dice[RULES.index(rule)])

    def best(self, *, flip: bool) -> VolumeRule:
        """The rule with the best mean over patients; of equal ones the first, which does least."""
        return max((rule for rule in RULES if rule.flip == flip), key=lambda rule: float(self.of(rule).mean()))

    def chosen(self) -> VolumeRule:
        """The best rule; one with mirrored slices only where that brings `FLIP_WORTH`."""
        alone, both = self.best(flip=False), self.best(flip=True)
        return both if self.of(both).mean() - self.of(alone).mean() >= FLIP_WORTH else alone

    def without(self, patients: Collection[str]) -> Trial:
        """The trial of the other patients."""
        kept = [at for at, patient in enumerate(self.patients) if patient not in patients]
        return Trial(tuple(self.patients[at] for at in kept), self.dice[:, kept])

    def gain(self, rule: VolumeRule) -> tuple[float, float, float]:
        """What it changes of a patient's Dice on average, with a 95 % bootstrap interval over patients."""
        change = self.of(rule) - self.of(PLAIN)
        return float(change.mean()), *mean_interval(change)


def fair_for(run: RunDirectory, trial: Trial) -> Trial:
    """What of a trial may choose for a run: the patients that its figures are not of.

    So the folds of a cross-validation choose for one another, on their test patients, and each fold's figures stay
    figures of patients that nothing of it was chosen on.

    Raises:
        SegkitError: no patient is left.
    """
    rest = trial.without(Split.load(run.split).test)
    if not rest.patients:
        raise SegkitError(
            f"{run.path}: all {len(trial.patients)} patients are its test patients, which may not choose for it; "
            "choose with --split val, or on the runs of other folds, too"
        )
    return rest


def tune(
    runs: Sequence[RunDirectory],
    *,
    data: str = "",
    part: str = "val",
    device: str = "auto",
    batch: int = 8,
    progress: Callable[[str], None] = lambda _: None,
) -> Trial:
    """Try every rule on the patients of `part` of each run's split, by the net of that run.

    Raises:
        SegkitError: as `cases_for` says, or no patient with a volume and any foreground in the reference or a mask.
    """
    names, counts = [], []
    for run in runs:
        subject = open_subject(run.onnx if run.onnx.exists() else run.path, device, batch)
        case_set, cases, _ = cases_for(subject, data, part)
        for number, case in enumerate(cases, 1):
            progress(f"{run.path.name} {number}/{len(cases)} {case.patient}")
            scan, reference = scan_of(case_set, case)
            if len(reference) == 1:
                continue  # no volume
            counts.append(_counts(subject.segmenter, scan, reference, len(case_set.classes)))
            names.append(case.patient)
    if not counts:
        raise SegkitError("every patient is a single slice: there is no volume to choose for")
    table = np.swapaxes(np.array(counts), 0, 1)  # [rules, patients, K, K]
    dice = np.stack([foreground_dice(row) for row in table])
    defined = np.flatnonzero(~np.isnan(dice).any(axis=0))
    if not len(defined):
        raise SegkitError("no patient has any foreground: there is nothing to choose by")
    return Trial(tuple(names[at] for at in defined), dice[:, defined])


def _counts(segmenter: Segmenter, scan: Scan, reference: NDArray[np.uint8], classes: int) -> list[Counts]:
    """Confusion `[K, K]` under each of `RULES`, in their order, on the part of the volume where any of them decides.

    The net runs once for each way of mirroring.
    """
    said = {flip: np.stack(list(segmenter.probabilities(scan, Slicing(flip=flip)))) for flip in (False, True)}
    likely = np.logical_or.reduce([1 - probability[:, 0].min(axis=0) > _LEAST_LIKELY for probability in said.values()])
    rows, columns = _box(likely | reference.any(axis=0))
    counted, counts = reference[:, rows, columns], []
    for flip, smooth in product((False, True), SMOOTH):
        means = list(smoothed(said[flip][..., rows, columns], smooth))
        for threshold in THRESHOLDS:
            mask = np.stack([VolumeRule(flip, smooth, threshold).decide(mean) for mean in means])
            found = components(mask)
            counts += [confusion(least.apply(mask, scan, found), counted, classes) for least in LEAST]
    return counts


def _box(marked: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns of `[H, W]` that hold everything that is marked; of nothing the first of both."""
    rows, columns = (np.flatnonzero(marked.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(1), slice(1)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
