#!/usr/bin/env bash
# Installs what the cluster tests need on Debian, as root: SLURM, munge and shellcheck.
set -euo pipefail
missing=()
for pair in sbatch:slurm-wlm munged:munge shellcheck:shellcheck; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}" >/dev/null
