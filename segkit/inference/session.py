"""An ONNX model that keeps segkit's contract, ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError, FileError, SegkitError
from segkit.imaging.fit import MODES
from segkit.model_metadata import INPUT, MASK, PROBABILITY, ModelMetadata
from segkit.resources import granted_cpus

DEVICES = ("auto", "cpu", "cuda")

# From so many slices on `auto` takes the GPU: a CUDA session takes some seconds to start, in which a CPU of
# a few cores segments about so many slices of 256 x 256 with a U-Net of width 32.
CUDA_WORTH_SLICES = 64
MANY_SLICES = 2**31  # of what stays and waits for work

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_GPU_NODES = ("/dev/nvidiactl", "/dev/dxg")  # of NVIDIA's driver, and of the one for Linux on Windows
_KEPT_PIXELS = 2**18  # of a batch whose memory a resident model keeps: four slices of 256 x 256
_QUIET = 4  # ONNX Runtime's severity "fatal": what goes wrong is told by segkit, in one line


@dataclass(frozen=True)
class Model:
    """A loaded model. `device` is what it really runs on; for `resident` see `load`."""

    session: Any
    metadata: ModelMetadata
    path: Path
    device: str
    resident: bool = False
    beside: Any = None  # a second session for batches that run beside others: with its share of the CPUs

    @classmethod
    def load(
        cls, path: Path, device: str = "auto", slices_hint: int = 1, *, resident: bool = False, parallel: int = 1
    ) -> Model:
        """Load a model for about `slices_hint` slices.

        `auto` is the CPU for few slices; for many it is CUDA where that works, else the CPU. `resident` is for a
        process that stays and does other things too: memory is kept from batch to batch, except after an
        unusually large one, and threads without work sleep at once. up to `parallel` batches will run at a time: on a
        CPU each then has its share of the cores, because threads that wait for each other at every layer cost more
        than they bring where all cores are busy.

        Raises:
            ConfigError: an unknown device.
            FileError: not ONNX, or not a model that segkit exported.
            SegkitError: `cuda` was asked for and does not work; the message says what is missing.
        """
        if device not in DEVICES:
            raise ConfigError("device", device, ", ".join(DEVICES))
        cpus = granted_cpus()
        session = _create(path, _wants_cuda(device, slices_hint), resident, cpus)
        on_cuda = _CUDA in session.get_providers()
        if device == "cuda" and not on_cuda:
            raise SegkitError(f"--device cuda: {_why_no_cuda()}; use --device cpu")
        share = max(1, cpus // parallel)
        beside = _create(path, False, resident, share) if share < cpus and not on_cuda else None
        return cls(session, _checked(path, session), path, "cuda" if on_cuda else "cpu", resident, beside)

    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class indices `[N, H, W]` of images `[N, H, W, C]`; the probabilities stay inside the graph."""
        masks: NDArray[np.uint8] = self.run([MASK], images)[0]
        return masks

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities `[N, K, H, W]` of images `[N, H, W, C]`."""
        probabilities: NDArray[np.float32] = self.run([PROBABILITY], images)[0]
        return probabilities

    def run(self, outputs: Sequence[str], images: NDArray[np.uint8], *, beside: bool = False) -> list[Any]:
        """The named outputs for images `[N, H, W, C]`; `beside` other runs if so. FileError if the model fails."""
        session = self.beside if beside and self.beside is not None else self.session
        try:
            inputs = {INPUT: np.ascontiguousarray(images)}
            results: list[Any] = session.run(list(outputs), inputs, self._run_options(images))
        except Exception as error:  # ONNX Runtime's errors have no common base below Exception
            count, height, width, _ = images.shape
            what = f"failed on {count} slices of {width} x {height} ({_first_line(error)})"
            raise FileError(self.path, what, "try a smaller --batch or --device cpu") from error
        return results

    def _run_options(self, images: NDArray[np.uint8]) -> Any:
        """What gives the memory of a large batch back at its end; None for the others."""
        count, height, width, _ = images.shape
        if not self.resident or self.device != "cpu" or count * height * width <= _KEPT_PIXELS:
            return None
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


def expected_device(device: str, slices_hint: int) -> str:
    """What `Model.load` will choose, "cpu" or "cuda", told before there is a model: for the one to load on it.

    It looks for a GPU's driver, but does not try it. Where that fails after all, a model for a GPU runs on the CPU.
    """
    # ONNX Runtime takes a while to import: not before a GPU's driver is there.
    if not _wants_cuda(device, slices_hint) or not any(Path(node).exists() for node in _GPU_NODES):
        return "cpu"
    import onnxruntime

    return "cuda" if _CUDA in onnxruntime.get_available_providers() else "cpu"


def _wants_cuda(device: str, slices_hint: int) -> bool:
    return device == "cuda" or (device == "auto" and slices_hint >= CUDA_WORTH_SLICES)


def _create(path: Path, wants_cuda: bool, resident: bool, threads: int) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(_QUIET)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = threads
    # Without the arena a U-Net of width 32 needs 0.35 GB in place of 0.54 for four slices, and is no slower.
    options.enable_cpu_mem_arena = resident
    if resident and threads < granted_cpus():
        # Beside other batches: a waiting thread that spins takes a tenth of the CPU time from the rest of the server.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    elif resident:  # alone in the net threads may spin between layers, which is faster, but not after the last one
        options.add_session_config_entry("session.force_spinning_stop", "1")
    available = onnxruntime.get_available_providers()
    providers = [_CUDA, _CPU] if wants_cuda and _CUDA in available else [_CPU]
    if providers[0] == _CUDA and hasattr(onnxruntime, "preload_dlls"):
        _preload(onnxruntime)
    try:
        content = path.stat()
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})") from error
    except Exception as error:  # as in Model.run
        reason = "is empty" if not content.st_size else f"is not an ONNX model ({_first_line(error)})"
        raise FileError(path, reason, "give a model.onnx that `segkit export` wrote") from error
    return session


def _preload(onnxruntime: Any) -> None:
    """Find the CUDA libraries that pip installed, if any. It prints what it misses."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


def _why_no_cuda() -> str:
    """What keeps ONNX Runtime from CUDA: the wheel, a library by name, or the GPU."""
    import ctypes

    import onnxruntime

    if _CUDA not in onnxruntime.get_available_providers():
        return "this ONNX Runtime has no CUDA; install onnxruntime-gpu in place of onnxruntime"
    version = f"ONNX Runtime {onnxruntime.__version__}"
    folder = Path(onnxruntime.__file__).parent / "capi"
    for library in sorted(folder.glob("*onnxruntime_providers_cuda.*")):
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            missing = str(error).split(":")[0]
            if missing != str(library):
                return f"{version} needs the library {missing}, which cannot be loaded"
    return f"{version} found no GPU that it can use (see nvidia-smi)"


def _checked(path: Path, session: Any) -> ModelMetadata:
    """The metadata of a model that keeps the contract. Raises FileError naming the first difference."""
    remedy = "give a model.onnx that `segkit export` wrote"
    try:
        metadata = ModelMetadata.from_props(session.get_modelmeta().custom_metadata_map)
    except (KeyError, ValueError, TypeError) as error:
        raise FileError(path, f"is ONNX, but not a model of segkit's (metadata: {error})", remedy) from error
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if set(inputs) != {INPUT} or not {MASK, PROBABILITY} <= outputs:
        what = f"has the tensors {', '.join([*inputs, *sorted(outputs)])}, not {INPUT}, {MASK} and {PROBABILITY}"
        raise FileError(path, what, remedy)
    node = inputs[INPUT]
    if node.type != "tensor(uint8)" or len(node.shape) != 4 or node.shape[3] not in (len(metadata.channels), None):
        what = f"takes {node.type} {node.shape}, not uint8 [N, H, W, {len(metadata.channels)}]"
        raise FileError(path, what, remedy)
    if len(metadata.mask_values) != len(metadata.classes) or len(metadata.size) != 2 or metadata.fit not in MODES:
        raise FileError(path, "has metadata that contradict the contract (classes, mask_values, size, fit)", remedy)
    return metadata


def _first_line(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.rsplit(" : ", 1)[-1][:160]
