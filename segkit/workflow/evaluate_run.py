"""Evaluate a run or an exported model on a part of a dataset, and write the figures down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.data.cases import Case, CaseSet
from segkit.data.layouts import find_cases
from segkit.data.split import Split
from segkit.errors import FileError, SegkitError
from segkit.files import check_writable, write_json, write_text
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.session import Model
from segkit.metrics import Summary
from segkit.model_metadata import ModelMetadata
from segkit.runs import open_run
from segkit.training.checkpoint import load_deployed
from segkit.training.config import TrainConfig
from segkit.training.distributed import choose_device
from segkit.training.evaluate import Tally, TorchModel
from segkit.training.evaluation_report import to_json, to_markdown
from segkit.workflow.volume_rule import with_rule

PARTS = ("test", "val", "train", "all")


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, and what is known of the data it was trained on."""

    segmenter: Segmenter
    metadata: ModelMetadata
    source: Path
    data: str  # dataset folder of the run; "" where unknown
    split: Path | None
    folder: Path  # where the figures go


def open_subject(path: Path, device: str, batch: int) -> Subject:
    """A run directory (its best checkpoint) or an ONNX file. Raises FileError for anything else."""
    if path.suffix == ".onnx":
        model = Model.load(path, device, slices_hint=10**6)
        split = path.parent / "split.json"
        config = path.parent / "config.toml"
        data = TrainConfig.load(config).data.data if config.exists() else ""
        known = split if split.exists() else None
        return Subject(Segmenter(model, batch), model.metadata, path, data, known, path.parent)
    run = open_run(path)
    deployed, description = load_deployed(run.best)
    metadata = with_rule(description.metadata, run)
    model_like = TorchModel(deployed, metadata, run.best, choose_device(device))
    config_data = TrainConfig.load(run.config).data.data
    segmenter = Segmenter(model_like, batch)
    return Subject(segmenter, metadata, run.best, config_data, run.split, run.path)


def evaluate_subject(
    subject: Subject,
    *,
    data: str = "",
    part: str = "test",
    split_file: Path | None = None,
    output: Path | None = None,
    slicing: Slicing | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Summary, dict[str, Any], Path]:
    """Evaluate and write `evaluation.json` and `.md` (`evaluation-<part>` for a part other than test).

    Returns:
        The figures, their context (model, data, split), and the path of the JSON file.

    Raises:
        SegkitError: no dataset, no split, a split without patients here, or classes that do not fit.
    """
    case_set, cases, split_hash = cases_for(subject, data, part, split_file)
    target = output or subject.folder / ("evaluation.json" if part == "test" else f"evaluation-{part}.json")
    check_writable(target)
    tally = Tally(case_set.classes)
    tally.count(subject.segmenter, case_set, cases, slicing, progress)
    summary = tally.summary()
    context = {
        "model": subject.metadata.model,
        "width": subject.metadata.width,
        "source": str(subject.source),
        "data": str(case_set.root),
        "part": part,
        "patients": len(cases),
        "volumes": str((slicing or Slicing()).rule_for(subject.metadata, slices=2)),
        "split_sha256": split_hash,
        "run_id": subject.metadata.run_id,
    }
    write_json(target, to_json(summary, context))
    write_text(target.with_suffix(".md"), to_markdown(summary, context))
    return summary, context, target


def cases_for(
    subject: Subject, data: str, part: str, split_file: Path | None = None
) -> tuple[CaseSet, list[Case], str]:
    """The dataset to judge on ("": that of the run), its cases of a part of the split, and the split's hash.

    Raises:
        SegkitError: no dataset, no split, a split without patients here, or classes that do not fit.
    """
    folder = data or subject.data
    if not folder:
        raise SegkitError(f"{subject.source}: the dataset is not known; give it with --data")
    case_set = find_cases(Path(folder))
    _check_fit(subject, case_set)
    return case_set, *_chosen(subject, case_set, part, split_file)


def _check_fit(subject: Subject, case_set: CaseSet) -> None:
    metadata = subject.metadata
    if len(metadata.classes) != len(case_set.classes):
        raise SegkitError(
            f"{case_set.root}: has the classes {', '.join(case_set.classes)}, "
            f"the model {', '.join(metadata.classes)}; evaluate on the dataset it was trained for"
        )


def _chosen(subject: Subject, case_set: CaseSet, part: str, split_file: Path | None) -> tuple[list[Case], str]:
    if part == "all":
        return list(case_set.cases), ""
    path = split_file or subject.split
    if path is None:
        raise FileError(subject.source, "has no split.json beside it", "give --split-file FILE, or --split all")
    split = Split.load(path)
    wanted = set(getattr(split, part))
    cases = [case for case in case_set.cases if case.patient in wanted]
    if len(cases) != len(wanted):
        raise FileError(
            path,
            f"names {len(wanted)} {part} patients, of which {case_set.root} has {len(cases)}",
            "use its own split",
        )
    if not cases:
        raise FileError(path, f"has no {part} patients", "use --split val or all")
    if split_file is not None and subject.metadata.split_sha256 not in ("", split.sha256) and part == "test":
        trained = set(Split.load(subject.split).train) if subject.split else set()
        if trained & wanted:
            raise FileError(path, "tests on patients that the model was trained on", "use the split of its run")
    return cases, split.sha256
