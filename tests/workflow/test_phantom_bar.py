"""The phantom separates what finds the lesion from what does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segkit.data.phantom import write_phantom
from tests.conftest import Run


@pytest.mark.slow
def test_a_trained_net_passes_and_an_untrained_one_does_not(segkit: Run, tmp_path: Path) -> None:
    """On the default phantom; that a threshold stays below 0.5 is in tests/data/test_phantom.py."""
    write_phantom(tmp_path / "phantom")
    settings = ["--data", "phantom", "--model", "unet", "--width", "16", "--batch", "8"]
    dice = {}
    for name, length in (("trained", ["--epochs", "5"]), ("two-steps", ["--steps", "2"])):
        done = segkit("train", *settings, *length, "--run", name)
        assert done.returncode == 0, done.stderr
        evaluation = json.loads((tmp_path / name / "evaluation.json").read_text())
        dice[name] = evaluation["figures"]["pooled_dice"]["value"]
    assert dice["trained"] > 0.85
    assert dice["two-steps"] < 0.3
