"""What each training default is worth: one flag changed at a time, several seeds, on the phantom or your own data.

    python -m benchmarks.defaults [DATASET] [--seeds 2] [--epochs 4] [--width 16] [--size 96]

Prints, for each variant, the best validation Dice of a U-Net (median, lowest and highest over the seeds) and images/s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import machine
from segkit.data.phantom import write_phantom

VARIANTS = {
    "defaults": [],
    "no augmentation": ["--no-augment"],
    "intensity only": ["--warp", "0"],
    "no moving average": ["--ema", "0"],
    "cross-entropy alone": ["--dice", "0"],
    "no clipping": ["--clip", "0"],
    "no warm-up": ["--warmup", "0"],
    "half from tumour": ["--balance", "0.5"],
    "half the learning rate": ["--lr", "0.001"],
    "twice the learning rate": ["--lr", "0.004"],
}


def train(data: Path, run: Path, words: list[str]) -> tuple[float, float]:
    """Best validation Dice and median images/s of one run."""
    command = [sys.executable, "-m", "segkit", "train", "--data", str(data), "--run", str(run), "--model", "unet"]
    subprocess.run([*command, "--no-export", *words], check=True, stdout=subprocess.DEVNULL)
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return max(e["val_dice"] for e in epochs), statistics.median(e["images_per_s"] for e in epochs)


def main() -> None:
    """Run every variant with every seed, seeds outermost, so that a drifting machine touches all alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path)
    for name, default in (("seeds", 2), ("epochs", 4), ("width", 16), ("size", 96), ("batch", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    common = ["--epochs", options.epochs, "--width", options.width, "--batch", options.batch]
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = options.dataset or folder / "phantom"
        if options.dataset is None:
            write_phantom(data, size=options.size)
        for seed in range(options.seeds):
            for number, (variant, flags) in enumerate(VARIANTS.items()):
                words = [*map(str, common), "--seed", str(seed), *flags]
                results[variant].append(train(data, folder / f"run-{seed}-{number}", words))
    print(machine())
    print(
        f"{options.dataset or 'phantom'}, U-Net width {options.width}, {options.epochs} epochs, {options.seeds} seeds"
    )
    print(f"{'variant':24} {'val Dice':>8}  {'range':15} {'images/s':>8}")
    for variant, values in results.items():
        dice = [value for value, _ in values]
        rate = statistics.median(rate for _, rate in values)
        span = f"{min(dice):.3f} to {max(dice):.3f}"
        print(f"{variant:24} {statistics.median(dice):8.3f}  {span:15} {rate:8.1f}")


if __name__ == "__main__":
    main()
