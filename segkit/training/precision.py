"""Mixed precision: autocast, and the gradient scaler that fp16 needs."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from segkit.resources import has_bf16_cpu

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware multiplies it natively, else fp32."""
    if precision != "auto":
        return precision
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else has_bf16_cpu()
    return "bf16" if native else "fp32"


class Precision:
    """One precision on one device; weights and optimiser stay in float32."""

    def __init__(self, name: str, device: torch.device) -> None:
        self._dtype = _DTYPES.get(name)
        self._device = device.type
        self._scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of the forward pass."""
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device, dtype=self._dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the (scaled) loss."""
        (self._scaler.scale(loss) if self._scaler else loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, net: nn.Module, clip: float) -> None:
        """Clip, step and clear the gradients; the scaler skips a step whose gradients overflowed."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        if self._scaler is not None:
            self._scaler.step(optimizer)
            self._scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any] | None:
        """The scaler's state, if there is one."""
        return self._scaler.state_dict() if self._scaler is not None else None

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """The inverse of `state_dict`."""
        if self._scaler is not None and state is not None:
            self._scaler.load_state_dict(state)
