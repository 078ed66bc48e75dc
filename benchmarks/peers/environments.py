"""Make a virtual environment for each peer, in `.venv-peers/`; those that are there and complete are left alone.

    python -m benchmarks.peers.environments [--only NAME]

Each has the peer's own packages, at the versions of `peers/constraints.txt`, and sees PyTorch, NumPy and Pillow of the
environment that runs this script: all peers compute with the same builds of those.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-peers"
CONSTRAINTS = (ROOT / "constraints.txt", Path(__file__).with_name("constraints.txt"))
COMPLETE = ".complete"  # in an environment: the packages that it was made for

PEERS: dict[str, list[str]] = {
    "plain": [],
    "smp": ["segmentation-models-pytorch", "albumentations", "lightning", "torchvision"],
    "monai": ["monai"],
    "nnunet": ["nnunetv2", "torchvision", "opencv-python-headless"],
}


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment."""
    return FOLDER / name / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(PEERS))
    arguments = parser.parse_args()
    for name, packages in PEERS.items():
        if arguments.only in (None, name):
            make(name, packages)


def make(name: str, packages: list[str]) -> None:
    """Make one, unless the same one is there."""
    wanted = "\n".join([*packages, *(path.read_text("utf-8") for path in CONSTRAINTS)])
    mark = FOLDER / name / COMPLETE
    if mark.exists() and mark.read_text("utf-8") == wanted:
        print(f"{name}: there")
        return
    venv.EnvBuilder(clear=True, with_pip=bool(packages)).create(FOLDER / name)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    shared = FOLDER / name / "lib" / version / "site-packages" / "shared.pth"
    shared.write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    if packages:
        limits = [word for path in CONSTRAINTS for word in ("--constraint", str(path))]
        command = [str(python_of(name)), "-m", "pip", "install", "--quiet", "--quiet", *limits, *packages]
        subprocess.run(command, check=True)
    mark.write_text(wanted, encoding="utf-8")
    print(f"{name}: made")


if __name__ == "__main__":
    main()
