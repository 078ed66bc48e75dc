#!/usr/bin/env bash
# Stops what slurm_up.sh has started in FOLDER, jobs first, by process id.
set -uo pipefail
folder=$1
export SLURM_CONF=$folder/slurm.conf
timeout 10 scancel --state=PENDING --user="$(id -un)"
timeout 10 scancel --state=RUNNING --user="$(id -un)"
for _ in $(seq 100); do # until the jobs have ended
    [ -n "$(timeout 5 squeue -h)" ] || break
    sleep 0.3
done
for file in "$folder"/slurmd-n[12].pid "$folder/slurmctld.pid" "$folder/munge/pid"; do
    pid=$(cat "$file" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
done
# Written in place: in a container /etc/hosts is a mount, which cannot be replaced.
hosts=$(grep -v ' # segkit-test$' /etc/hosts) && printf '%s\n' "$hosts" >/etc/hosts
