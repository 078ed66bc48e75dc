"""Where this is: the machine, the container, the user, the packages."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from segkit import __version__
from segkit.container import runtime
from segkit.doctor.finding import Finding, note, ok

# Extra of the package -> a module that only it brings, and what does not work without.
_EXTRAS = {
    "train": ("torch", "train, profile, export and evaluate"),
    "serve": ("uvicorn", "serve"),
    "dicom": ("pydicom", "DICOM in and out"),
}


def check_host(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Machine, container and user."""
    fact = f"segkit {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return [
        ok("host.machine", f"{fact}, {platform.node()}", "This is what runs.", python=sys.executable),
        _container(root, environment),
        *_user(environment),
    ]


def _container(root: Path, environment: Mapping[str, str]) -> Finding:
    kind = runtime(root, environment)
    if not kind:
        return ok("host.container", "no container", "What is installed here is what is used.", runtime="")
    image = environment.get("APPTAINER_CONTAINER") or environment.get("SINGULARITY_CONTAINER") or ""
    given = " with --nv" if (root / ".singularity.d/libs/libcuda.so.1").exists() else ""
    fixed = _is_read_only(root)
    fact = f"{kind}{given}" + (f", {image}" if image else "") + (", read-only image" if fixed else "")
    meaning = "Only what is bound into the container can be read and kept."
    return ok("host.container", fact, meaning, runtime=kind, image=image, nv=bool(given), read_only=fixed)


def _is_read_only(root: Path) -> bool:
    return bool(os.statvfs(root).f_flag & os.ST_RDONLY)


def _user(environment: Mapping[str, str]) -> list[Finding]:
    if not hasattr(os, "geteuid"):
        return []
    home = environment.get("HOME", "")
    if home and os.access(home, os.W_OK):
        return []
    fact = f"user {os.geteuid()} has no home folder to write to" + (f" ({home})" if home else "")
    return [note("host.user", fact, "segkit needs none: it writes to the working directory and SEGKIT_CACHE.")]


def check_packages() -> list[Finding]:
    """Which extras are installed."""
    found = [name for name, (module, _) in _EXTRAS.items() if importlib.util.find_spec(module)]
    fact = f"installed extras: {', '.join(found) or 'none'}"
    absent = [
        note(
            f"packages.{name}",
            f"the extra {name} is not installed",
            f"What does not work without it: {work}.",
            f"pip install 'segkit[{name}]'",
        )
        for name, (_, work) in _EXTRAS.items()
        if name not in found
    ]
    return [ok("packages.extras", fact, "segment needs none of them.", installed=found), *absent]
