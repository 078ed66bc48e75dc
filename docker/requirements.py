"""The packages that pyproject.toml asks for, one a line: `python requirements.py RUNTIME [EXTRA ...]`.

RUNTIME takes the place of both wheels of ONNX Runtime, which own the same folder and cannot stand side by side.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Print the runtime, then what the package and its extras need without it."""
    runtime, *extras = sys.argv[1:]
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    print(runtime, *(line for lines in lists for line in lines if not line.startswith("onnxruntime")), sep="\n")


if __name__ == "__main__":
    main()
