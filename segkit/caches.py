"""Where the caches of other libraries go: into segkit's own, never into a home folder or a shared temporary one."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from segkit.unwritable import nearest_folder

# What reads the variable -> the folder in the cache.
COMPILED = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",  # torch.compile; its own default also fails for a user without a name
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",  # kernels that the driver translates
}
_HEADERS = "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"  # which torch keeps in the temporary folder, whatever is said
DRAWN = "MPLCONFIGDIR"  # matplotlib's list of fonts


def keep_compiled_in(cache: Path) -> None:
    """Let what torch compiles be kept in `cache`, unless the user said where. Nothing is made here."""
    for variable, folder in COMPILED.items():
        os.environ.setdefault(variable, str(cache.absolute() / folder))
    os.environ.setdefault(_HEADERS, "0")


def keep_fonts_in(cache: Path) -> None:
    """Let matplotlib keep its list of fonts in `cache` where that is there, else until this process ends.

    To be called before matplotlib is imported.
    """
    if DRAWN in os.environ:
        return
    chosen = os.environ.get("SEGKIT_CACHE")
    wanted = Path(chosen or cache)
    if (chosen or wanted.is_dir()) and os.access(nearest_folder(wanted), os.W_OK):
        os.environ[DRAWN] = str(wanted.absolute() / "matplotlib")
        return
    folder = Path(tempfile.mkdtemp(prefix="segkit-fonts-"))
    os.environ[DRAWN] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
