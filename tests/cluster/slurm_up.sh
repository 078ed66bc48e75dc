#!/usr/bin/env bash
# Starts a SLURM cluster on this host for tests: munged, slurmctld and two slurmd, n1 and n2, everything in FOLDER.
# No systemd, no cgroups, no accounting; a node has two CPUs and two fake GPUs. Prints the path of slurm.conf.
#
#   slurm_up.sh FOLDER [FIRST_PORT]
#
# Needs root, for munge's own user and for the names of the nodes in /etc/hosts.
set -euo pipefail
folder=$1 port=${2:-16817}
host=$(hostname -s)
mkdir -p "$folder"/{state,munge,log,dev,spool-n1,spool-n2}
chmod 755 "$folder"

head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 400 "$folder/munge/key"
chown -R munge: "$folder/munge"
# The umask leaves the socket open to all users, as munge wants it.
(
    umask 022
    exec setpriv --reuid munge --regid munge --clear-groups munged --force --key-file "$folder/munge/key" \
        --socket "$folder/munge/socket" --pid-file "$folder/munge/pid" --log-file "$folder/munge/log" \
        --seed-file "$folder/munge/seed"
)

memory=$(($(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) * 8 / 10 / 2))
cat >"$folder/slurm.conf" <<CONF
ClusterName=segkit-test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits as long as a credential lives: 120 s by default.
AuthInfo=cred_expire=10,socket=$folder/munge/socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmctldPort=$port
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmdSpoolDir=$folder/spool-%n
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd-%n
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
MinJobAge=600
JobRequeue=1
MailProg=/bin/true
GresTypes=gpu
DefMemPerCPU=$((memory / 2))
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2 RealMemory=$memory Gres=gpu:fake:2
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2 RealMemory=$memory Gres=gpu:fake:2
PartitionName=test Nodes=n[1-2] Default=YES MaxTime=60 State=UP
CONF
# slurmd wants a device for every GPU; the number at the end is what a job finds in CUDA_VISIBLE_DEVICES.
for gpu in 0 1; do
    mknod -m 666 "$folder/dev/nvidia$gpu" c 1 3 2>/dev/null || : >"$folder/dev/nvidia$gpu"
done
echo "NodeName=n[1-2] Name=gpu Type=fake File=$folder/dev/nvidia[0-1]" >"$folder/gres.conf"
# The nodes' names, as a job looks them up for its rendezvous.
getent hosts n1 >/dev/null && getent hosts n2 >/dev/null || echo "127.0.0.1 n1 n2 # segkit-test" >>/etc/hosts

export SLURM_CONF=$folder/slurm.conf
slurmctld -c
for node in n1 n2; do slurmd -N "$node" -c; done
for _ in $(seq 100); do
    [ "$(sinfo -h -N -o %t | grep -c idle)" -ne 2 ] || break
    sleep 0.2
done
echo "$SLURM_CONF"
