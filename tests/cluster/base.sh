#!/usr/bin/env bash
# Make what stands in for python:3.11-slim-bookworm where no registry of images is reached: Debian's minimal system with
# its Python, without bytecode, as the slim image has none. An image of podman's and $WORK/base.tar.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
root=$WORK/base
rm -rf "$root" "$WORK/base.tar"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg bookworm "$root" "$(debian_mirror)" > "$WORK/debootstrap.log"
# The host's mirror and resolver are not the image's, and an unprivileged user can't unpack devices.
rm -rf "${root:?}"/dev/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/{doc,man,locale} \
    "$root"/etc/apt/sources.list "$root"/etc/resolv.conf "$root"/etc/hostname
find "$root" -name '*.pyc' -delete
ln -sf python3 "$root/usr/bin/python"
tar -C "$root" -c . | podman import --quiet --change 'CMD ["python3"]' - "$BASE"
podman save --quiet --format docker-archive -o "$WORK/base.tar" "$BASE"
