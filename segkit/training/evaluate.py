"""The figures of a model on cases, each at its scan's own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from segkit.data.cases import Case, CaseSet
from segkit.data.read import read_case
from segkit.imaging.scan import Scan
from segkit.inference.postprocess import largest_component
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.metrics import ConfusionTable, Summary, class_hd95, slice_confusions, summarise
from segkit.metrics.confusion import Counts
from segkit.model_metadata import ModelMetadata
from segkit.models.deployed import DeployedNet


class TorchModel:
    """A trained net behind the interface of an ONNX model, so that both are evaluated by the same code."""

    def __init__(self, deployed: DeployedNet, metadata: ModelMetadata, path: Path, device: torch.device) -> None:
        self.deployed = deployed.to(device).eval()
        self.metadata, self.path, self.device = metadata, path, device.type
        self._where = device

    @torch.inference_mode()
    def masks(self, images: np.ndarray) -> np.ndarray:
        """Class indices uint8 [N, H, W] of images uint8 [N, H, W, C]."""
        return np.asarray(self.deployed(self._on_device(images))[0].cpu().numpy())

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities float32 [N, K, H, W] of images uint8 [N, H, W, C]."""
        return np.asarray(self.deployed(self._on_device(images))[1].cpu().numpy())

    def _on_device(self, images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(images)).to(self._where)  # a copy: the input may be read-only


@dataclass
class Tally:
    """Confusion counts of each slice, by patient; as masks are, and of their largest components; surface distances."""

    classes: tuple[str, ...]
    plain: list[tuple[str, Counts]] = field(default_factory=list)
    largest: list[tuple[str, Counts]] = field(default_factory=list)
    distances: dict[str, tuple[float | None, ...]] = field(default_factory=dict)

    def count(
        self,
        segmenter: Segmenter,
        case_set: CaseSet,
        cases: Sequence[Case],
        slicing: Slicing | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Segment every case, as `segkit segment` would, and add what came out. Raises FileError."""
        classes = len(self.classes)
        for number, case in enumerate(cases, 1):
            scan, reference = scan_of(case_set, case)
            mask = segmenter.segment(scan, slicing).mask
            self.plain.append((case.patient, slice_confusions(mask, reference, classes)))
            self.largest.append((case.patient, slice_confusions(largest_component(mask), reference, classes)))
            if case.spacing is not None:
                self.distances[case.patient] = class_hd95(mask, reference, classes, case.spacing)
            progress(f"{number}/{len(cases)} {case.patient}")

    def summary(self) -> Summary:
        """The figures under every convention."""
        table, largest = (ConfusionTable.from_patients(pairs, self.classes) for pairs in (self.plain, self.largest))
        return summarise(table, largest, self.distances or None)


def scan_of(case_set: CaseSet, case: Case) -> tuple[Scan, NDArray[np.uint8]]:
    """A case as a scan of its own size, and its reference uint8 `[S, H, W]`. Raises FileError."""
    images, reference = read_case(case_set, case)
    return Scan(images, case.spacing, None, case_set.channels, Path(case.patient), kind="folder"), reference
