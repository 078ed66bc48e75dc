"""When a backward pass has come to its last gradient, and when a DDP net exchanges buffers before its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class LastGradient:
    """Finds out which parameter's gradient comes last in a backward pass, and then listens to that one only."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], ready: Any) -> None:
        self._ready = ready
        self._order: list[int] = []
        self._handles: dict[int, Any] = {}
        for k, parameter in enumerate(parameters):
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook
                self._handles[k] = hook(self._listener(k))  # type: ignore[no-untyped-call]

    def remove(self) -> None:
        """Listen no more."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def _listener(self, k: int) -> Any:
        def listen(_: torch.Tensor) -> None:
            if len(self._handles) == 1:
                self._ready()
            else:
                self._learn(k)

        return listen

    def _learn(self, k: int) -> None:
        if k not in self._order:
            self._order.append(k)
            return
        last = self._order[-1]  # the second backward pass has begun: the first one's order is known
        for other, handle in list(self._handles.items()):
            if other != last:
                handle.remove()
                del self._handles[other]


def watch_buffers(model: torch.nn.Module, switch: Callable[[str], None]) -> list[Any]:
    """Call `switch("sync")` while DDP gives every rank the buffers of the first, before each forward pass.

    Returns:
        The hooks; none for a net that exchanges no buffers.
    """
    from torch.nn.parallel import DistributedDataParallel

    if not isinstance(model, DistributedDataParallel) or not model.broadcast_buffers:
        return []
    # DDP's own hook comes before the exchange, that of the net inside it right after.
    return [
        model.register_forward_pre_hook(lambda *_: switch("sync")),
        model.module.register_forward_pre_hook(lambda *_: switch("compute")),
    ]
