"""In a process of its own: what the CUDA driver library says. `python -m segkit.doctor.driver_process`"""

from __future__ import annotations

import ctypes
from typing import Any

from segkit.doctor.child import answer


def main() -> None:
    """Load libcuda, ask for its version and start it."""
    answer(describe())


def describe() -> dict[str, Any]:
    """`loads`, `version` as 12040 for 12.4, `init` as cuInit's code, `devices`."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"loads": False, "why": str(error)}
    number = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(number))
    version = number.value
    code = int(library.cuInit(0))
    count = ctypes.c_int(0)
    if code == 0:
        library.cuDeviceGetCount(ctypes.byref(count))
    return {"loads": True, "version": version, "init": code, "devices": count.value}


if __name__ == "__main__":
    main()
