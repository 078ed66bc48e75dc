#!/bin/sh
# The main job end to end on an embedded default. Usage: demo.sh FOLDER (made anew; segkit and its python on PATH).
set -eu
folder=$1
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
started=$(date +%s)
run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run segkit data phantom phantom
run segkit data inspect phantom
run segkit train --data phantom --run runs --epochs 5 --batch 8

# A slice of a patient that no net has seen: the one with most tumour.
slice=$(python - <<'PYTHON'
import json, pathlib
import numpy as np
from PIL import Image

patient = json.loads(pathlib.Path("runs/unet/split.json").read_text())["test"][0]
masks = pathlib.Path("phantom", patient).glob("*_mask.tif")
print(max(masks, key=lambda path: np.asarray(Image.open(path)).sum()).as_posix().replace("_mask", ""))
PYTHON
)
cp "$slice" scan.tif
run segkit segment scan.tif --model runs/unet --overlay --json

printf '\nDone in %s s. In %s:\n' "$(($(date +%s) - started))" "$(pwd)"
cat <<'TEXT'
  phantom/                     the dataset, in the LGG layout
  runs/{unet,fcn,segnet}/      one run a net: config.toml, metrics.jsonl, checkpoints/, evaluation.md, model.onnx
  scan.tif, scan_mask.tif      a test slice and its mask; scan_overlay.png to look at, scan_mask.json with areas
TEXT
