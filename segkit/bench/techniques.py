"""The techniques that an ablation tries where none are named."""

from __future__ import annotations

from segkit.resources import granted_cpus, has_bf16_cpu


def default_techniques(device: str) -> str:
    """Those that can change something on this machine, in the order in which a person would try them."""
    import torch

    on_gpu = device != "cpu" and torch.cuda.is_available()
    found = [f"workers={granted_cpus()}", "loader=packed", "channels_last=on", "fused=on"]
    if on_gpu:
        found += ["pin=on", "deterministic=off"]
    if on_gpu or has_bf16_cpu():
        found.append("precision=bf16")
    return ",".join([*found, "compile=on"])
