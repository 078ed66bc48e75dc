"""Put a run's exported model into the package, with its card and the pictures of its best, median and worst patient.

    segkit export runs/lgg/unet-all --form fp16
    python -m benchmarks.lgg.publish runs/lgg/unet-all --form fp16 --name lgg-unet --default cuda \\
        --judged runs/lgg/unet-fold-*

Every figure in the card is of patients that the net which gave it had not seen: those of the `--judged` runs, which
have the same recipe, each by its own model; without any, the test patients of the run itself. With `--form int8` or
`w8` the judged models are in this form, too. What changed slices cost is of those judged runs that
`benchmarks.lgg.robustness` has measured. The tables of docs/models.md are written anew. `--figures-stand` judges
nothing again: for a card of another text, or after `benchmarks.lgg.robustness` has measured more runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.lgg import tables
from benchmarks.lgg.integers import form_of
from benchmarks.lgg.robustness import KEPT, lost, of_runs
from benchmarks.lgg.tables import DOCS, SHOWN
from segkit.data.cases import Case, CaseSet
from segkit.data.layouts import find_cases
from segkit.data.split import Split
from segkit.export.onnx_model import read_metadata
from segkit.files import file_sha256, read_json, write_json, write_text
from segkit.inference.catalogue import INDEX, PACKAGED
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.session import Model
from segkit.inference.volume_rule import VolumeRule
from segkit.metrics import ConfusionTable, summarise
from segkit.runs import RunDirectory, open_run
from segkit.training.config import TrainConfig
from segkit.training.evaluate import Tally, scan_of
from segkit.training.evaluation_report import to_json

HERE = Path(__file__).parent
FIGURES = DOCS / "models"
CHANGES = """\
Mean volume Dice of {patients} of these patients, and what is lost against the slices as they are (paired, 95 %
interval; of models in float32).

{changes}"""
STORED = {
    "fp32": "float32",
    "fp16": "float32, its weights stored as float16",
    "w8": "float32, its weights stored in 8 bits",
    "int8": "8-bit integers",
}
OF_THIS_NET = "Of this net{form}."
OF_OTHERS = (
    "Of the nets of the cross-validation ({folds} of its 5 folds){form}, on patients that neither they nor the choice "
    "of their rule had seen; this file was made by the same recipe from nearly all patients, so that none is left to "
    "judge it on."
)
JUDGED_IN = {"fp32": "", "fp16": ", their weights in float32", "w8": ", in the same form", "int8": ", in the same form"}
NETS = {"unet": "U-Net", "fcn": "FCN-8s", "segnet": "SegNet"}


@dataclass(frozen=True)
class Judge:
    """A run's model, and the patients that it had not seen."""

    run: RunDirectory
    model: Model
    case_set: CaseSet
    split: Split

    @property
    def cases(self) -> list[Case]:
        """The test patients of its split."""
        return [case for case in self.case_set.cases if case.patient in self.split.test]


def publish(run: RunDirectory, form: str, name: str, judged: list[RunDirectory], default: list[str]) -> None:
    """Copy the model, judge it, write card, pictures and index."""
    target = packaged(name)
    PACKAGED.mkdir(exist_ok=True)
    FIGURES.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_source(run, form), target)
    case_set = find_cases(Path(TrainConfig.load(run.config).data.data))
    judges = _judges(judged, form, case_set)
    evaluation = _figures(judges, case_set.classes)
    evaluation["context"] |= {
        "model": target.name,
        "run_id": str(run.record()["run_id"]),
        "volumes": str(VolumeRule.of(read_metadata(target))),
        "data": case_set.root.name,
    }
    _pictures(judges, evaluation["patients"], FIGURES / f"{name}.png")
    describe(run, form, name, judged, evaluation)
    index = read_json(PACKAGED / INDEX) if (PACKAGED / INDEX).exists() else {"default": {}, "models": {}}
    index["models"][name] = {"sha256": file_sha256(target)}
    index["default"] |= dict.fromkeys(default, name)
    write_json(PACKAGED / INDEX, index)


def describe(run: RunDirectory, form: str, name: str, judged: list[RunDirectory], evaluation: dict[str, Any]) -> None:
    """Keep the figures of a packaged model, and write its card."""
    measured = [one for one in judged if (one.path / KEPT).exists()]
    robust = robustness(measured) if measured else {}
    write_json(FIGURES / f"{name}.json", {**evaluation, "robustness": robust})
    write_text(packaged(name).with_suffix(".md"), _card(name, form, run, evaluation, robust))


def kept_figures(run: RunDirectory, form: str, name: str, judged: list[RunDirectory]) -> dict[str, Any]:
    """The figures of the packaged model. Exits where they are not those of this model, these runs and their rules."""
    evaluation = read_json(FIGURES / f"{name}.json")
    judged_now = [_judged_as(one) for one in judged]
    judged_then = [{key: fold[key] for key in _judged_as(judged[0])} for fold in evaluation["folds"]]
    if judged_then != judged_now or file_sha256(_source(run, form)) != file_sha256(packaged(name)):
        raise SystemExit(f"{name}: another model, other runs or other rules than those of its figures; judge it anew")
    return evaluation


def _judged_as(run: RunDirectory) -> dict[str, str]:
    """What makes figures those of a fold: its weights (one trained anew, or longer, has the same name) and rule."""
    rule = str(VolumeRule.of(read_metadata(run.onnx)))
    return {"run": run.path.name, "weights": file_sha256(run.best), "volumes": rule}


def packaged(name: str) -> Path:
    """Where a model lies in the package."""
    return PACKAGED / f"{name}.onnx"


def _source(run: RunDirectory, form: str) -> Path:
    return run.onnx if form == "fp32" else run.form(form)


def _judges(judged: list[RunDirectory], form: str, case_set: CaseSet) -> list[Judge]:
    with tempfile.TemporaryDirectory() as folder:
        # What is stored in 16 bits decides as in 32; of 8 it is measured.
        files = [form_of(one, form, Path(folder)) if form in ("w8", "int8") else one.onnx for one in judged]
        return [
            Judge(one, Model.load(file, "cpu"), case_set, Split.load(one.split))
            for file, one in zip(files, judged, strict=True)
        ]


def _figures(judges: list[Judge], classes: tuple[str, ...]) -> dict[str, Any]:
    """Figures over the patients of all judges, in volumes and by slice, and of each fold by itself."""
    volumes, slices = Tally(classes), Tally(classes)
    folds = []
    for judge in judges:
        volumes.count(Segmenter(judge.model), judge.case_set, judge.cases)
        slices.count(Segmenter(judge.model), judge.case_set, judge.cases, Slicing(by_slice=True))
        of_fold = ConfusionTable.from_patients(volumes.plain[-len(judge.cases) :], classes)
        shown = {key: value for key, value in summarise(of_fold).values().items() if key in SHOWN}
        folds.append({**_judged_as(judge.run), "patients": len(judge.cases), **shown})
    context = {"judged": [judge.run.path.name for judge in judges], "patients": len(volumes.plain)}
    by_slice = to_json(slices.summary(), context)["figures"]
    return {**to_json(volumes.summary(), context), "by_slice": by_slice, "folds": folds}


def robustness(runs: list[RunDirectory]) -> dict[str, Any]:
    """What changed slices cost the nets of some runs, and of how many patients that is."""
    dice = of_runs(runs)
    return {"runs": [run.path.name for run in runs], "patients": len(dice["as it is"]), "changes": lost(dice)}


def _pictures(judges: list[Judge], patients: list[dict[str, Any]], path: Path) -> None:
    """Best, median and worst patient: FLAIR, the reference and the model's mask on the slice with most tumour."""
    ranked = sorted((row for row in patients if row["dice"] is not None), key=lambda row: -row["dice"])
    cases = {case.patient: (judge, case) for judge in judges for case in judge.cases}
    rows = []
    for row in (ranked[0], ranked[len(ranked) // 2], ranked[-1]):
        judge, case = cases[row["patient"]]
        scan, reference = scan_of(judge.case_set, case)
        at = int(reference.reshape(len(reference), -1).sum(axis=1).argmax())
        found = Segmenter(judge.model).segment(scan).mask[at]
        flair = np.repeat(scan.pixels[at, ..., 1:2], 3, axis=2)
        rows.append(np.concatenate([flair, _outlined(flair, reference[at]), _outlined(flair, found)], axis=1))
    picture = Image.fromarray(np.concatenate(rows))
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    edge = mask.astype(bool)
    edge[1:-1, 1:-1] &= ~inner.astype(bool)
    out = image.copy()
    out[edge] = (255, 190, 0)
    return out


def _card(name: str, form: str, run: RunDirectory, evaluation: dict[str, Any], robust: dict[str, Any]) -> str:
    config, split, context = TrainConfig.load(run.config), Split.load(run.split), evaluation["context"]
    figures = [
        f"| {figure['label']} | {_value(figure)} | {_value(evaluation['by_slice'][key])} | {figure['over']} |"
        for key, figure in evaluation["figures"].items()
        if figure["value"] is not None
    ]
    worst = sorted((row["dice"], row["patient"]) for row in evaluation["patients"] if row["dice"] is not None)[:3]
    held_out = (OF_THIS_NET if split.test else OF_OTHERS).format(folds=len(context["judged"]), form=JUDGED_IN[form])
    return Template((HERE / "card.md").read_text(encoding="utf-8")).substitute(
        name=name,
        net=f"{NETS[config.model.model]} of width {config.model.width}",
        stored=STORED[form],
        train=len(split.train),
        val=len(split.val),
        test=context["patients"],
        held_out=held_out,
        rule=context["volumes"],
        split=split.sha256,
        recipe=config.model.model,
        run=context["run_id"],
        sha256=file_sha256(packaged(name)),
        figures="\n".join(figures),
        changes=CHANGES.format(patients=robust["patients"], changes=tables.changes(robust["changes"]))
        if robust
        else "Not measured for this model.",
        worst=", ".join(f"{patient} {dice:.3f}" for dice, patient in worst),
    )


def _value(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.4f} {_interval(figure['low'], figure['high'])}".rstrip()


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--form", choices=tuple(STORED), default="int8")
    parser.add_argument("--name", required=True)
    devices = parser.add_argument("--default", nargs="*", choices=("cpu", "cuda"), default=[])
    devices.help = "where `segkit segment` takes it without --model"
    parser.add_argument("--judged", type=Path, nargs="*", default=[], help="runs of folds whose figures stand for it")
    parser.add_argument("--figures-stand", action="store_true", help="write card and tables anew, judge nothing")
    options = parser.parse_args()
    run = open_run(options.run)
    judged = [open_run(path) for path in options.judged] or [run]
    if not any(Split.load(one.split).test for one in judged):
        parser.error("the run has no test patients: name the runs of the folds with --judged")
    if options.figures_stand:
        evaluation = kept_figures(run, options.form, options.name, judged)
        describe(run, options.form, options.name, judged, evaluation)
    else:
        publish(run, options.form, options.name, judged, options.default)
    tables.write()
    print(json.dumps(read_json(PACKAGED / INDEX), indent=2))


if __name__ == "__main__":
    main()
