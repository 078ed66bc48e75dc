"""Pack a dataset in the LGG layout into archives that a machine with a transfer limit can take, and unpack them.

    python -m benchmarks.lgg.pack kaggle_3m archives --limit-mb 58
    python -m benchmarks.lgg.pack --unpack archives kaggle_3m

Slices go in as PNG (lossless, a third of the TIFFs), a patient is never divided. Archives are plain zip files, so that
any machine can read them; what is unpacked has the same pixels as the original.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image


def pack(dataset: Path, target: Path, limit: int) -> list[Path]:
    """Write `part-<k>.zip` files of at most `limit` bytes each (a single larger patient excepted)."""
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    held: list[tuple[str, bytes]] = []
    size = 0
    for patient in sorted(path for path in dataset.iterdir() if path.is_dir()):
        items = list(_slices(patient))
        own = sum(len(content) + 200 for _, content in items)  # 200: an entry's two headers
        if held and size + own > limit:
            written.append(_write(target / f"part-{len(written)}.zip", held))
            held, size = [], 0
        held += items
        size += own
    if held:
        written.append(_write(target / f"part-{len(written)}.zip", held))
    return written


def unpack(archives: Path, dataset: Path) -> int:
    """Write the slices of all archives as TIFF files; gives their number."""
    count = 0
    for archive in sorted(archives.glob("part-*.zip")):
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                path = dataset / Path(name).parent.name / (Path(name).stem + ".tif")
                path.parent.mkdir(parents=True, exist_ok=True)
                with Image.open(io.BytesIO(packed.read(name))) as image:
                    (image.convert("L") if image.mode == "1" else image).save(path)
                count += 1
    return count


def _slices(patient: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(patient.glob("*.tif")):
        buffer = io.BytesIO()
        with Image.open(path) as image:
            (image.convert("1", dither=Image.Dither.NONE) if path.stem.endswith("_mask") else image).save(
                buffer, "PNG", optimize=True
            )
        yield f"{patient.name}/{path.stem}.png", buffer.getvalue()


def _write(path: Path, items: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in items:
            archive.writestr(name, content)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--limit-mb", type=float, default=58.0)
    parser.add_argument("--unpack", action="store_true")
    options = parser.parse_args()
    if options.unpack:
        print(f"{unpack(options.source, options.target)} files in {options.target}")
        return
    for path in pack(options.source, options.target, int(options.limit_mb * 1e6)):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
