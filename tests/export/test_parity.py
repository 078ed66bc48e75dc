from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from segkit.errors import ParityError
from segkit.export.onnx_model import export_onnx
from segkit.export.parity import Parity, check_parity, dice_delta, export_checked
from segkit.inference.session import Model
from segkit.model_metadata import ModelMetadata
from segkit.models.deployed import DeployedNet
from segkit.models.normalise import Normalise

METADATA = ModelMetadata(
    model="threshold",
    width=1,
    classes=("background", "dark", "bright"),
    channels=("flair",),
    size=(40, 40),
    fit="pad",
    mask_values=(0, 1, 2),
    metrics={"dice": 0.5},
)

Images = NDArray[np.uint8]


class Bands(nn.Module):
    """Class 1 above 0.5, class 2 above 0.75 of the brightness: exact, and easy to shift."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(1, 3, 1)
        with torch.no_grad():
            self.score.weight.copy_(torch.tensor([0.0, 4.0, 8.0]).view(3, 1, 1, 1))
            self.score.bias.copy_(torch.tensor([0.0, -2.0, -5.0]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x)  # type: ignore[no-any-return]


class Branching(Bands):
    """Decides in Python by the data: the export keeps the branch that its example took."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits if x.max() > 0 else -logits


def deployed(net: nn.Module) -> DeployedNet:
    return DeployedNet(net, Normalise([0.0], [1.0]))


def batches() -> Iterator[tuple[str, Images, Images]]:
    """Two patients of 4 noisy slices, 40 x 40, whose batches alternate."""
    generator = np.random.default_rng(0)
    for index in range(4):
        images = generator.integers(0, 256, (2, 40, 40, 1), dtype=np.uint8)
        reference = (images[..., 0] > 120).astype(np.uint8)  # class 2 is nowhere
        yield ("one", "two")[index % 2], images, reference


def with_bias(path: Path, change: float) -> None:
    """Add `change` to the score of class 1."""
    model = onnx.load(path)
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("bias")]
    values = numpy_helper.to_array(bias) + np.array([0, change, 0], np.float32)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    export_onnx(deployed(Bands()), METADATA, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_true_export_passes(path: Path) -> None:
    parity = check_parity(deployed(Bands()), path, batches())
    assert (parity.pixels, parity.agreeing, parity.patients) == (8 * 40 * 40, 8 * 40 * 40, 2)
    assert (parity.worst_patient, parity.worst_dice_delta) == ("", 0.0)
    parity.require()
    assert str(parity).startswith("100.0000 % of 12,800 pixels agree")


def test_an_altered_model_fails_by_the_figures_of_a_count_by_hand(path: Path) -> None:
    with_bias(path, -0.5)
    parity = check_parity(deployed(Bands()), path, batches())
    differing = 0
    tables: dict[str, list[int]] = {}
    for patient, images, reference in batches():
        bright = images[..., 0] / 255.0
        true, altered = [(bright > low) & (bright < high) for low, high in ((0.5, 0.75), (0.625, 0.625))]
        classes = np.select([bright > 0.75, bright > 0.5], [2, 1], 0)
        shifted = np.select([bright > 0.625], [2], 0)  # 4b - 2.5 > 8b - 5 nowhere above its own threshold
        differing += int((classes != shifted).sum())
        entry = tables.setdefault(patient, [0, 0])
        entry[0] += int((true & (reference == 1)).sum())
        entry[1] += int(true.sum() + (reference == 1).sum())
        assert not altered.any()
    deltas = {patient: 2 * hits / total for patient, (hits, total) in tables.items()}
    assert parity.pixels - parity.agreeing == differing
    assert parity.worst_dice_delta == pytest.approx(max(deltas.values()))
    assert deltas[parity.worst_patient] == max(deltas.values())
    with pytest.raises(ParityError, match="does not decide like the net"):
        parity.require()


@pytest.mark.parametrize(
    ("agreeing", "delta", "good"),
    [(99_990, 0.001, True), (99_989, 0.0, False), (100_000, 0.0011, False), (100_000, 0.0, True)],
)
def test_the_gates_limits(agreeing: int, delta: float, good: bool) -> None:
    parity = Parity(100_000, agreeing, "one", delta, 2)
    if good:
        parity.require()
        return
    with pytest.raises(ParityError) as caught:
        parity.require()
    assert "\n" not in str(caught.value)


def test_never_rounded_up_to_all() -> None:
    assert str(Parity(10_000_000, 9_999_999, "", 0.0, 1)).startswith("99.9999 %")


def test_checked_export_keeps_its_figures(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    parity = export_checked(deployed(Bands()), METADATA, target, batches())
    metrics = Model.load(target, "cpu").metadata.metrics
    assert metrics["dice"] == 0.5
    assert metrics["parity"]["pixels"] == parity.pixels == 12_800
    assert metrics["parity"]["agreement"] == 1.0
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("old", [None, "the old model"])
def test_a_net_that_cannot_be_traced_faithfully_leaves_nothing(old: str | None, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    if old:
        target.write_text(old)
    with pytest.raises(ParityError):
        export_checked(deployed(Branching()), METADATA, target, batches())
    assert [file.read_text() for file in tmp_path.iterdir()] == ([old] if old else [])


def test_no_slices_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="there is none"):
        export_checked(deployed(Bands()), METADATA, tmp_path / "model.onnx", iter(()))
    assert not list(tmp_path.iterdir())


def test_a_class_that_the_reference_lacks_is_left_out() -> None:
    before = np.array([[90, 0, 0], [0, 10, 0], [0, 0, 0]])
    after = np.array([[89, 0, 1], [0, 10, 0], [0, 0, 0]])
    assert dice_delta(before, after) == 0.0
    assert dice_delta(before, np.array([[89, 1, 0], [0, 10, 0], [0, 0, 0]])) == pytest.approx(1 - 20 / 21)
