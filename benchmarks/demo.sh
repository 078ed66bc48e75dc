#!/bin/sh
# The main job end to end on an embedded default. Usage: demo.sh FOLDER (made anew; needs segkit on PATH).
set -eu
folder=$1
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
started=$(date +%s)
run() { printf '\n$ %s\n' "$*"; "$@"; }

run segkit data phantom phantom
run segkit data inspect phantom
run segkit train --data phantom --run runs --epochs 14 --width 16
patient=$(segkit data split phantom --print test | head -n 1)
slice=$(ls phantom/"$patient"/*_mask.tif | xargs ls -S | head -n 1)
