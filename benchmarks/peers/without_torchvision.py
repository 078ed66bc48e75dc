"""Names the operators of torchvision that its own compiled part should bring.

That part of PyPI's torchvision is built for CUDA and does not load beside a CPU build of PyTorch; then
`import torchvision` fails ("operator torchvision::nms does not exist"). timm imports it, and through timm so do
segmentation_models_pytorch and nnU-Net, none of which use those operators here.
"""

from __future__ import annotations

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
_KNOWN = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def name_operators() -> None:
    """Call before whatever imports torchvision; does nothing to a torchvision that works."""
    import importlib.metadata

    if importlib.metadata.version("torchvision").partition("+")[2] == "cpu" or torch.version.cuda:
        return
    for name in ("nms", "qnms"):
        _LIBRARY.define(name + _KNOWN)
