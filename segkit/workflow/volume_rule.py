"""The rule for volumes of a run: kept in its `volume.json`, and inside the models that were exported from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from segkit.errors import FileError
from segkit.export.onnx_model import read_metadata, set_metadata
from segkit.files import read_json, write_json
from segkit.inference.volume_rule import VolumeRule
from segkit.model_metadata import ModelMetadata
from segkit.runs import RunDirectory


def with_rule(metadata: ModelMetadata, run: RunDirectory) -> ModelMetadata:
    """The metadata with the run's rule, where one was chosen. Raises FileError where the file holds none."""
    if not run.volume_rule.exists():
        return metadata
    try:
        with_it = replace(metadata, **read_json(run.volume_rule)["rule"])
        VolumeRule.of(with_it)
    except (KeyError, TypeError) as error:
        raise FileError(run.volume_rule, "holds no rule for volumes", "choose one with `segkit tune`") from error
    return with_it


def keep_rule(run: RunDirectory, rule: VolumeRule, chosen_on: dict[str, Any]) -> None:
    """Write the rule into the run and its exported models, with a record of what it was chosen on."""
    write_json(run.volume_rule, {"rule": rule.as_metadata(), "chosen_on": chosen_on})
    for path in sorted(run.path.glob(f"{run.onnx.stem}*.onnx")):
        set_metadata(path, with_rule(read_metadata(path), run))
