"""A synthetic dataset in the LGG layout, to try everything without data that need a licence.

The lesion shares its FLAIR signal with scalp, rims of the ventricles, flow artefacts, small spots and large
patches of gliosis, so that no threshold finds it; the other sequences, shape and place tell them apart.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segkit.data.phantom_anatomy import make_patient
from segkit.errors import ConfigError, FileError
from segkit.files import atomic_folder, read_json, write_json
from segkit.resources import granted_cpus

_MARKER = "phantom.json"
_FORMAT = 1  # raise when the same arguments give other images
_INSTITUTIONS = ("AA", "BB", "AA", "CC", "BB", "AA")
_ALLOWED = {"patients": (1, 9999), "slices": (4, 512), "size": (64, 1024)}


def write_phantom(root: Path, *, patients: int = 24, slices: int = 14, size: int = 128, seed: int = 0) -> None:
    """Write `<root>/<patient>/<patient>_<k>.tif` and `_mask.tif`; the whole set appears at once.

    About 9 ms a slice of 128 x 128 on one core. A set with the same arguments is left as it is; another
    phantom set in the same place is replaced.

    Args:
        root: the folder; made if absent.
        patients: 1 to 9999. In ten patients one has no post, and in twenty one no pre either; the channel is
            a copy of FLAIR, as in the LGG set.
        slices: slices of each patient, 4 to 512.
        size: height and width in pixels, 64 to 1024.
        seed: the same arguments give the same bytes.

    Raises:
        ConfigError: an argument out of its range.
        FileError: the folder holds something else, or cannot be written.
    """
    wanted = {"format": _FORMAT, "patients": patients, "slices": slices, "size": size, "seed": seed}
    for key, (least, most) in _ALLOWED.items():
        if not least <= wanted[key] <= most:
            raise ConfigError(key, wanted[key], f"{least} to {most}")
    if seed < 0:
        raise ConfigError("seed", seed, "0 and above")
    root = root.absolute()
    if _present(root) == wanted and sum(1 for _ in root.glob("*/*.tif")) == 2 * patients * slices:
        return
    with atomic_folder(root) as folder, ThreadPoolExecutor(granted_cpus()) as pool:
        jobs = [pool.submit(_write_patient, folder, n, slices, size, seed) for n in range(patients)]
        for job in jobs:
            job.result()
        write_json(folder / _MARKER, wanted)


def patient_name(number: int) -> str:
    """`PHANTOM_<institution>_<number>`; numbers count from 0, names from 1."""
    return f"PHANTOM_{_INSTITUTIONS[number % len(_INSTITUTIONS)]}_{number + 1:04d}"


def _write_patient(root: Path, number: int, slices: int, size: int, seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64([seed, number]))
    images, lesion = make_patient(rng, slices, size, pre=number % 20 != 16, post=number % 10 != 6)
    name = patient_name(number)
    folder = root / name
    folder.mkdir()
    for k, (image, mask) in enumerate(zip(images, lesion, strict=True), start=1):
        Image.fromarray(image).save(folder / f"{name}_{k}.tif")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}_{k}_mask.tif")


def _present(root: Path) -> Any:
    """What the phantom set in `root` was made from; None if there is nothing. Raises FileError for others."""
    try:
        entries = sorted(path.name for path in root.iterdir())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(root, f"cannot be listed ({error.strerror})") from error
    if not entries:
        return None
    foreign = [name for name in entries if name != _MARKER and not name.startswith("PHANTOM_")]
    if _MARKER not in entries or foreign:
        raise FileError(root, f"is not empty ({(foreign or entries)[0]})", "choose a new folder for the phantom")
    return read_json(root / _MARKER)
