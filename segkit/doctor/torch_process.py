"""In a process of its own: what PyTorch was built for, and whether it computes on each GPU.

python -m segkit.doctor.torch_process
"""

from __future__ import annotations

from typing import Any

from segkit.doctor.child import answer


def main() -> None:
    """Import torch and try each device."""
    answer(describe())


def describe() -> dict[str, Any]:
    """Versions, backends, and for each device why it does not compute ("" where it does)."""
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name == "torch":
            return {"installed": False}
        raise
    import torch.distributed as dist

    cuda = torch.version.cuda or ""
    backends = [name for name in ("gloo", "nccl") if dist.is_available() and getattr(dist, f"is_{name}_available")()]
    return {
        "installed": True,
        "version": torch.__version__,
        "cuda": cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "architectures": torch.cuda.get_arch_list() if cuda else [],
        "backends": backends,
        "devices": [_try(torch, index) for index in range(torch.cuda.device_count())] if cuda else [],
    }


def _try(torch: Any, index: int) -> dict[str, Any]:
    device = {"index": index, "name": "", "capability": "", "why": ""}
    try:
        device["name"] = torch.cuda.get_device_name(index)
        device["capability"] = "sm_{}{}".format(*torch.cuda.get_device_capability(index))
        x = torch.randn(1, 4, 8, 8, device=f"cuda:{index}")
        y = torch.nn.functional.conv2d(x, torch.ones(2, 4, 3, 3, device=x.device))
        expected = torch.nn.functional.conv2d(x.cpu(), torch.ones(2, 4, 3, 3))
        device["why"] = "" if torch.allclose(y.cpu(), expected, atol=1e-2) else "a convolution comes out wrong"
    except RuntimeError as error:
        device["why"] = (str(error).splitlines() or ["unknown"])[0][:200]
    return device


if __name__ == "__main__":
    main()
