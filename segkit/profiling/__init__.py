"""Where the GPU's time goes, for any training loop: `Profiler` around it, `segkit report` after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit.profiling.profiler import Profiler

__all__ = ["Profiler"]


def __getattr__(name: str) -> Any:
    """Import the profiler only when it is asked for, so that readers of records stay light."""
    if name == "Profiler":
        from segkit.profiling.profiler import Profiler

        return Profiler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
