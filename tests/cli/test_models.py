from __future__ import annotations

import json
from pathlib import Path

from threshold_model import write_threshold_model

from tests.conftest import Run


def test_lists_what_is_installed_and_what_can_be_trained(segkit: Run) -> None:
    found = json.loads(segkit("models", "--json", "--width", 4).stdout)
    assert [row["name"] for row in found["models"]][:3] == ["unet", "fcn", "segnet"]
    assert found["width"] == 4
    assert all(row["problem"] is None for row in found["installed"])
    text = segkit("models").stdout
    assert "Nets to train:" in text
    assert "31.04 M" in text  # the paper's U-Net


def test_an_added_model_segments_by_its_name(segkit: Run, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    write_threshold_model(tmp_path / "mine.onnx")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "scan.tif")
    cache = {"SEGKIT_CACHE": str(tmp_path / "cache")}
    assert segkit("models", "add", "mine.onnx", "--name", "better", **cache).returncode == 0
    done = segkit("segment", "scan.tif", "--model", "better", **cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "scan_mask.tif").exists()
    assert "better" in segkit("models", **cache).stdout


def test_a_file_that_is_no_model_is_one_line(segkit: Run, tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_text("no model")
    done = segkit("models", "add", "junk.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "junk.onnx: is not an ONNX model" in done.stderr
