#!/usr/bin/env bash
# Install what the tests of this folder need, on Debian as root: podman, debootstrap, and Apptainer, which bookworm has
# not: sid's, unpacked beside the host with the three libraries that it links to, so that nothing is upgraded.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
prefix=/opt/apptainer

export DEBIAN_FRONTEND=noninteractive
packages=(ca-certificates debootstrap podman buildah runc uidmap patchelf squashfs-tools squashfuse fuse2fs fuse3
    fuse-overlayfs iproute2 shellcheck)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    apt-get update -qq
    apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
if command -v apptainer >/dev/null; then
    apptainer --version
    exit
fi

# A private tree for apt: sid's lists, no installed package.
apt=$WORK/apt-sid
mkdir -p "$apt"/{lists/partial,cache/archives/partial,dpkg}
: > "$apt/dpkg/status"
printf 'deb [signed-by=%s] %s sid main\n' /usr/share/keyrings/debian-archive-keyring.gpg "$(debian_mirror)" \
    > "$apt/sources.list"
options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$apt/lists"
    -o "Dir::State::status=$apt/dpkg/status" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
(cd "$unpacked" && apt-get "${options[@]}" download apptainer libc6 libseccomp2 libsqlite3-0)
dpkg-deb -x "$unpacked"/apptainer_*.deb "$unpacked/program"
for package in "$unpacked"/lib*.deb; do dpkg-deb -x "$package" "$unpacked/libraries"; done

rm -rf "$prefix"
mkdir -p "$prefix/sid"
cp -a "$unpacked"/program/usr/. "$unpacked"/program/etc "$unpacked"/program/var "$prefix/"
for library in libc.so.6 libm.so.6 ld-linux-x86-64.so.2 libseccomp.so.2 libsqlite3.so.0 libresolv.so.2 libpthread.so.0; do
    find "$unpacked/libraries" -name "$library" -exec cp -L {} "$prefix/sid/" \;
done
for program in "$prefix/bin/apptainer" "$prefix"/lib/*/apptainer/bin/starter; do
    patchelf --set-interpreter "$prefix/sid/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$prefix/sid" "$program"
done
# "starter" takes lib for its prefix: it finds there the two folders that it looks for.
ln -sfn ../etc "$prefix/lib/etc"
ln -sfn ../var "$prefix/lib/var"
# Apptainer asks for every capability, which root in a container has not, and so fails: let it ask for none. A build
# from a definition then takes --fakeroot, and that a range of ids.
sed -i 's/^root default capabilities = .*/root default capabilities = no/' "$prefix/etc/apptainer/apptainer.conf"
for file in /etc/subuid /etc/subgid; do
    grep -q '^root:' "$file" || echo root:1000000000:65536 >> "$file"
done
chmod 666 /dev/fuse # as udev would; an unprivileged user mounts a SIF through it
ln -sf "$prefix/bin/apptainer" /usr/local/bin/apptainer
apptainer --version
