# shellcheck shell=bash
# What the scripts of this folder share. Everything that they make lies under WORK; no mirror or index is named here, the
# host's own settings of apt and pip are read.
WORK=${SEGKIT_CLUSTER:-/var/tmp/segkit-cluster}
# shellcheck disable=SC2034 # for the scripts that source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034
BASE=localhost/segkit-base:bookworm
export APPTAINER_TMPDIR=$WORK/tmp APPTAINER_CACHEDIR=$WORK/cache
mkdir -p "$APPTAINER_TMPDIR" "$APPTAINER_CACHEDIR"
chmod 755 "$WORK"

# The mirror that the host's apt takes its own suite from.
debian_mirror() {
    local suite
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt fills these in
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        awk -v suite="$suite" '$2 == suite { print $1; exit }'
}

# The folders on this disk that pip's settings name, one a line, the longer of two that begin alike first.
pip_folders() {
    { pip config list; env | grep '^PIP_FIND_LINKS='; } 2>/dev/null |
        grep -oE "(file://)?/[^ '\"]+" | sed 's#^file://##; s#/simple/\{0,1\}$##' |
        sort -ru | while read -r name; do [ ! -d "$name" ] || echo "$name"; done
}

# pip_settings: makes $WORK/pip, which a build sees at /mnt: pip.conf as the host's is, certificates, folders of wheels.
pip_settings() {
    local certificates number=0 folder
    certificates=${PIP_CERT:-$(pip config get global.cert 2>/dev/null || echo /etc/ssl/certs/ca-certificates.crt)}
    rm -rf "$WORK/pip"
    mkdir -p "$WORK/pip"
    cp -L "$certificates" "$WORK/pip/certificates.pem"
    {
        echo '[global]'
        echo 'cert = /mnt/certificates.pem'
        pip config list 2>/dev/null |
            sed -nE "s/^(global|:env:)\.(index-url|extra-index-url|find-links|trusted-host|proxy)='(.*)'\$/\2 = \3/p" | sort -u
    } > "$WORK/pip/pip.conf"
    for folder in $(pip_folders); do
        number=$((number + 1))
        mkdir "$WORK/pip/$number"
        sed -i "s#$folder#/mnt/$number#g" "$WORK/pip/pip.conf"
    done
}

# pip_mounts FLAG: the arguments that mount it, FLAG being --volume (podman) or --bind (Apptainer).
pip_mounts() {
    local number=0 folder
    printf '%s\n' "$1" "$WORK/pip:/mnt:ro"
    for folder in $(pip_folders); do
        number=$((number + 1))
        printf '%s\n' "$1" "$folder:/mnt/$number:ro"
    done
}
