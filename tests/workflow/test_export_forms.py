"""The smaller forms of a real run, and the gate before them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from segkit.errors import ParityError
from segkit.export import parity, quantise
from segkit.inference.session import Model
from segkit.runs import open_run
from segkit.workflow.export_run import FORMS, export_form
from tests.conftest import Run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_made_from_the_model_that_is_there(form: str, run: Path, segkit: Run) -> None:
    before = (run / "model.onnx").stat()
    done = segkit("export", run, "--form", form)
    assert done.returncode == 0, done.stderr
    assert (run / "model.onnx").stat().st_mtime_ns == before.st_mtime_ns
    metadata = Model.load(run / f"model-{form}.onnx", "cpu").metadata
    assert metadata.metrics[form]["mean_dice_delta"] <= 0.002
    assert f"on average by {metadata.metrics[form]['mean_dice_delta']:.5f}" in done.stdout


def test_the_model_is_exported_first_where_the_net_is_newer(run: Path, segkit: Run) -> None:
    newer = (run / "model.onnx").stat().st_mtime + 10
    os.utime(run / "checkpoints" / "best.pt", (newer, newer))
    before = (run / "model.onnx").stat().st_mtime_ns
    done = segkit("export", run, "--form", "fp16")
    assert done.returncode == 0, done.stderr
    assert (run / "model.onnx").stat().st_mtime_ns > before
    assert len(done.stdout.splitlines()) == 2


def test_every_range_is_tried_before_a_form_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []
    write = quantise.quantise_int8

    def noted(source: Path, target: Path, calibration: object, percentile: float) -> None:
        tried.append(percentile)
        write(source, target, calibration, percentile)  # type: ignore[arg-type]

    monkeypatch.setattr(quantise, "quantise_int8", noted)
    monkeypatch.setattr(parity, "MAX_MEAN_DICE_DELTA", -1.0)  # no form is that close
    files = sorted(run.iterdir())
    with pytest.raises(ParityError, match=r"does not decide like the exported model: .* on average \(by .* for "):
        export_form(open_run(run), "int8")
    assert tried == list(quantise.PERCENTILES)
    assert sorted(run.iterdir()) == files


def test_the_range_by_which_most_pixels_stay_is_taken_whatever_the_order(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "MAX_MEAN_DICE_DELTA", 1.0)  # any form is close enough

    def agreeing(*percentiles: float) -> int:
        monkeypatch.setattr(quantise, "PERCENTILES", percentiles)
        return export_form(open_run(run), "int8")[1].agreeing

    assert agreeing(70.0) < agreeing(99.999)
    assert agreeing(70.0, 99.999) == agreeing(99.999, 70.0) == agreeing(99.999)
