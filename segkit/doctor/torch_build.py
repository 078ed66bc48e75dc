"""PyTorch: whether it is there, fits the driver, and computes on each GPU."""

from __future__ import annotations

from typing import Any

from segkit.doctor.child import ask
from segkit.doctor.finding import Finding, failure, note, ok, warning
from segkit.doctor.gpu import Gpus


def check_torch(gpus: Gpus) -> list[Finding]:
    """The build and the devices."""
    said = ask("segkit.doctor.torch_process")
    if said.died:
        remedy = "install it again: pip install --force-reinstall torch"
        return [failure("torch", f"importing PyTorch {said.died}", "Nothing can be trained.", remedy)]
    values = said.values
    if not values["installed"]:
        meaning = "segment and serve work; train, profile, export and evaluating a checkpoint do not."
        return [note("torch", "PyTorch is not installed", meaning, "pip install 'segkit[train]'", **values)]
    return [_build(values, gpus), *(_device(device, values) for device in values["devices"])]


def _build(values: dict[str, Any], gpus: Gpus) -> Finding:
    built = f"built for CUDA {values['cuda']}" if values["cuda"] else "built without CUDA"
    fact = f"torch {values['version'].partition('+')[0]}, {built}; ranks talk by {', '.join(values['backends']) or '-'}"
    if not gpus.usable:
        return ok("torch", fact, "Training runs on the CPU.", **values)
    if not values["cuda"]:
        remedy = "install a build for CUDA: pip install --force-reinstall torch"
        return failure("torch", fact, "Training leaves the GPU idle.", remedy, **values)
    problem = gpus.too_old_for(values["cuda"])
    if problem:
        return failure("torch", f"{fact}; {problem}", "Training leaves the GPU idle.", gpus.newer, **values)
    if not values["devices"]:
        remedy = "compare CUDA_VISIBLE_DEVICES with nvidia-smi -L"
        return failure("torch", f"{fact}; it sees no GPU", "Training leaves the GPU idle.", remedy, **values)
    if "nccl" not in values["backends"]:
        remedy = "install a build for Linux and CUDA"
        return warning("torch", fact, "Several GPUs cannot train together: NCCL is not in it.", remedy, **values)
    return ok("torch", fact, "It fits the driver.", **values)


def _device(device: dict[str, Any], values: dict[str, Any]) -> Finding:
    fact = f"cuda:{device['index']} {device['name']} ({device['capability']})"
    if not device["why"]:
        return ok("torch.device", f"{fact} computes", "It can train.", **device)
    remedy = "see nvidia-smi; the GPU may be taken by another job"
    if device["capability"] not in values["architectures"]:
        remedy = f"install a torch that is built for {device['capability']} (this one: {_listed(values)})"
    return failure("torch.device", f"{fact}: {device['why']}", "It cannot train.", remedy, **device)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(values["architectures"])
