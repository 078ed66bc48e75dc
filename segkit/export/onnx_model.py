"""Writes a net as one ONNX file that takes 8-bit pixels and gives a mask."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch

from segkit.errors import ConfigError
from segkit.files import atomic_path
from segkit.model_metadata import INPUT, MASK, PROBABILITY, STRIDE, ModelMetadata
from segkit.models.deployed import DeployedNet

OPSET = 18  # ONNX Runtime reads it from 1.14 on
MAX_BYTES = 2_000_000_000  # a protobuf message, which one ONNX file is, ends at 2 GiB


def export_onnx(deployed: DeployedNet, metadata: ModelMetadata, path: Path, *, opset: int = OPSET) -> None:
    """Write `deployed` in evaluation mode to `path`, atomically; it may be in any mode and on any device.

    The file has the tensors of `segkit.model_metadata`, with N, H and W free, and the metadata inside.

    Raises:
        ConfigError: the net is too large for one file.
        FileError: `path` cannot be written.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in deployed.state_dict().values())
    if size > MAX_BYTES:
        raise ConfigError("width", metadata.width, f"a width whose weights stay below 2 GB (here {size / 1e9:.1f} GB)")
    ready = copy.deepcopy(deployed).to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    for parameter in ready.parameters():
        parameter.requires_grad_(False)
    with atomic_path(path) as temporary:
        _trace(ready, temporary, opset)
        set_metadata(temporary, metadata)
        onnx.checker.check_model(str(temporary))


def set_metadata(path: Path, metadata: ModelMetadata) -> None:
    """Replace the metadata inside the ONNX file at `path`, atomically."""
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata.to_props())
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


def read_metadata(path: Path) -> ModelMetadata:
    """The metadata inside the ONNX file at `path`."""
    model = onnx.load(path, load_external_data=False)
    return ModelMetadata.from_props({prop.key: prop.value for prop in model.metadata_props})


def _trace(ready: DeployedNet, path: Path, opset: int) -> None:
    """Let torch write the graph.

    By the tracing exporter: for the three nets at width 32 the newer one (`dynamo=True`) gives files of
    equal size (within 1 %) that ONNX Runtime runs equally fast, but takes 10 to 35 seconds instead of 2.
    """
    batch = {0: "N", 1: "H", 2: "W"}
    example = torch.zeros(2, 2 * STRIDE, 3 * STRIDE, ready.channels, dtype=torch.uint8)
    with quiet():
        torch.onnx.export(
            ready,
            (example,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[MASK, PROBABILITY],
            dynamic_axes={INPUT: batch, MASK: batch, PROBABILITY: {0: "N", 2: "H", 3: "W"}},
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence exporter and converters, which warn of their age and log advice; errors are exceptions."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
