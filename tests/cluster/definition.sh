#!/usr/bin/env bash
# apptainer/segkit.def -> $WORK/NAME.sif, as one does on a cluster.
#
#   definition.sh NAME [BUILD-ARGUMENT=VALUE ...]
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
name=$1
shift
arguments=(--build-arg BOOTSTRAP=docker-archive --build-arg "BASE=$WORK/base.tar" --build-arg PIP_CONFIG=/mnt/pip.conf
    --build-arg "COMMIT=$(git -C "$ROOT" rev-parse HEAD)"
    --build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$ROOT/segkit/__init__.py")")
for argument in "$@"; do arguments+=(--build-arg "$argument"); done
pip_settings
mapfile -t mounts < <(pip_mounts --bind)
cd "$ROOT"
# A build from a definition as a root that lacks capabilities is an unprivileged user's.
apptainer build --force --fakeroot --disable-cache "${mounts[@]}" "${arguments[@]}" \
    --mksquashfs-args '-comp zstd -Xcompression-level 15' "$WORK/$name.sif" apptainer/segkit.def
