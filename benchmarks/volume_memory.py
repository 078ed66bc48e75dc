"""Peak memory of `segkit segment` on a volume of 512 x 512 x 200. Bar: under 2 GB beyond the input.

    python -m benchmarks.volume_memory [--width 8] [--slices 200] [--device cpu]

The volume is noise with a bright blob, 16 bits, as NIfTI in one channel and as three on grids of their own. Each way
of asking for more (resampling, smoothing, lesions, pictures) is a process of its own, whose peak the system tells.
Without a trained model a U-Net with random weights is exported first, which needs the extra `train`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.segment_start import export_net
from benchmarks.timing import machine

BAR = 2e9  # bytes beyond the input
EXTRAS = {
    "plain": [],
    "pictures and measures": ["--overlay", "--json"],
    "resampled to 0.8 mm": ["--pixel-mm", "0.8"],
    "smoothed, lesions over 0.1 ml": ["--smooth", "1", "--min-lesion", "0.1ml", "--json"],
}


def write_volume(path: Path, slices: int, *, shift: float = 0.0) -> int:
    """Write noise with a blob, 0.5 x 0.5 x 1 mm; gives the bytes of its voxels."""
    import nibabel

    random = np.random.default_rng(0)
    data = random.integers(0, 400, (512, 512, slices), np.int16)
    data[200:320, 150:330, slices // 4 : slices // 2] += 1200
    affine = np.diag([-0.5, -0.5, 1, 1])
    affine[:3, 3] = shift
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return int(data.nbytes)


def peak(command: list[str]) -> tuple[int, float]:
    """Bytes of resident memory at most, and seconds, of a process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"failed: {' '.join(command)}")
    return usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Parse, prepare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(machine())
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_net(folder / "model.onnx", options.width)
        size = write_volume(folder / "a.nii", options.slices)
        write_volume(folder / "b.nii", options.slices, shift=0.3)
        common = ["--model", str(folder / "model.onnx"), "--device", options.device, "--force", "-q"]
        start = [sys.executable, "-m", "segkit", "segment", *common, "-o", str(folder / "mask.nii.gz")]
        three = ["--pre", "b.nii", "--flair", "a.nii", "--post", "b.nii"]
        cases = {label: ([str(folder / "a.nii"), *words], 1) for label, words in EXTRAS.items()}
        paths = [word if word.startswith("--") else str(folder / word) for word in three]
        cases["three channels, two of them moved"] = (paths, 3)
        for label, (words, channels) in cases.items():
            used, seconds = peak([*start, *words])
            beyond = used - size * channels
            worst = max(worst, beyond)
            figures = f"peak {used / 1e9:.2f} GB, {beyond / 1e9:.2f} GB beyond the input"
            print(f"{label:36} {figures}, {seconds:.0f} s of CPU", flush=True)
    verdict = "met" if worst < BAR else "MISSED"
    print(f"worst {worst / 1e9:.2f} GB beyond the input; the bar is {BAR / 1e9:.0f} GB: {verdict}")


if __name__ == "__main__":
    main()
