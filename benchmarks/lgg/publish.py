"""Put a run's exported model into the package, with its card and the pictures of its best, median and worst patient.

    segkit export runs/lgg/unet-fold-0 --form int8
    python -m benchmarks.lgg.publish runs/lgg/unet-fold-0 --form int8 --name lgg-unet --default --robustness

Every figure in the card is that of the very file that is shipped, on the test patients of the run's split.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.lgg.robustness import lost, measure
from segkit.data.cases import CaseSet
from segkit.data.layouts import find_cases
from segkit.data.read import read_case
from segkit.data.split import Split
from segkit.files import file_sha256, read_json, write_json, write_text
from segkit.inference.catalogue import INDEX, PACKAGED
from segkit.inference.session import Model
from segkit.runs import RunDirectory, open_run
from segkit.training.config import TrainConfig
from segkit.workflow.evaluate_run import evaluate_subject, open_subject

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "models"
CHANGES_HEAD = (
    "Mean volume Dice of the test patients, and what is lost against the slices as they are (paired, 95 % interval).",
    "",
    "| change | Dice | lost | interval |",
    "|---|---:|---:|---|",
)
STORED = {"fp32": "float32", "fp16": "float32, its weights stored as float16", "int8": "8-bit integers"}
NETS = {"unet": "U-Net", "fcn": "FCN-8s", "segnet": "SegNet"}


def publish(run: RunDirectory, form: str, name: str, *, default: bool, robustness: bool) -> None:
    """Copy the model, judge the copy (on changed slices, too, if `robustness`), write card, pictures and index."""
    source = run.onnx if form == "fp32" else run.onnx.with_name(f"model-{form}.onnx")
    target = PACKAGED / f"{name}.onnx"
    PACKAGED.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    data = Path(TrainConfig.load(run.config).data.data)
    subject = open_subject(target, "cpu", 4)
    report = evaluate_subject(
        subject, data=str(data), split_file=run.split, output=run.path / "published-evaluation.json"
    )[2]
    evaluation = read_json(report)
    evaluation["context"] |= {"source": target.name, "data": data.name}
    model, case_set, split = Model.load(target, "cpu"), find_cases(data), Split.load(run.split)
    robust = lost(measure(model, case_set, split.test)) if robustness else {}
    DOCS.mkdir(parents=True, exist_ok=True)
    write_json(DOCS / f"{name}.json", {**evaluation, "robustness": robust})
    _pictures(model, case_set, evaluation["patients"], DOCS / f"{name}.png")
    write_text(target.with_suffix(".md"), _card(name, form, run, evaluation, robust))
    index = read_json(PACKAGED / INDEX) if (PACKAGED / INDEX).exists() else {"default": name, "models": {}}
    index["models"][name] = {"sha256": file_sha256(target)}
    index["default"] = name if default else index["default"]
    write_json(PACKAGED / INDEX, index)


def _pictures(model: Model, case_set: CaseSet, patients: list[dict[str, Any]], path: Path) -> None:
    """Best, median and worst patient: FLAIR, the reference and the model's mask on the slice with most tumour."""
    ranked = sorted((row for row in patients if row["dice"] is not None), key=lambda row: -row["dice"])
    cases = {case.patient: case for case in case_set.cases}
    rows = []
    for row in (ranked[0], ranked[len(ranked) // 2], ranked[-1]):
        images, reference = read_case(case_set, cases[row["patient"]])
        at = int(reference.reshape(len(reference), -1).sum(axis=1).argmax())
        found = model.masks(images[at : at + 1])[0]
        flair = np.repeat(images[at, ..., 1:2], 3, axis=2)
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
    config, split = TrainConfig.load(run.config), Split.load(run.split)
    figures = [
        f"| {figure['label']} | {figure['value']:.4f} | {_interval(figure['low'], figure['high'])} | {figure['over']} |"
        for figure in evaluation["figures"].values()
        if figure["value"] is not None
    ]
    changes = [
        f"| {label} | {row['dice']:.4f} | {row['lost']:+.4f} | {_interval(*row['interval'])} |"
        for label, row in robust.items()
    ]
    worst = sorted((row["dice"], row["patient"]) for row in evaluation["patients"] if row["dice"] is not None)[:3]
    return Template((HERE / "card.md").read_text(encoding="utf-8")).substitute(
        name=name,
        net=f"{NETS[config.model.model]} of width {config.model.width}",
        stored=STORED[form],
        train=len(split.train),
        val=len(split.val),
        test=len(split.test),
        split=split.sha256,
        recipe=config.model.model,
        run=evaluation["context"]["run_id"],
        sha256=file_sha256(PACKAGED / f"{name}.onnx"),
        figures="\n".join(figures),
        changes="\n".join([*CHANGES_HEAD, *changes]) if robust else "Not measured for this model.",
        worst=", ".join(f"{patient} {dice:.3f}" for dice, patient in worst),
    )


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--form", choices=("fp32", "fp16", "int8"), default="int8")
    parser.add_argument("--name", required=True)
    parser.add_argument("--default", action="store_true", help="what `segkit segment` takes without --model")
    parser.add_argument(
        "--robustness", action="store_true", help="judge it on changed slices, too (nine times the work)"
    )
    options = parser.parse_args()
    run = open_run(options.run)
    publish(run, options.form, options.name, default=options.default, robustness=options.robustness)
    print(json.dumps(read_json(PACKAGED / INDEX), indent=2))


if __name__ == "__main__":
    main()
