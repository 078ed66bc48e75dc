# --- what all jobs share: one text, from here to the job itself ---

job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-?}}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
say() { printf 'segkit job %s: %s\n' "$job" "$*" >&2; }

gpus=${SLURM_GPUS_ON_NODE:-0}
child='' # process that this shell waits for
warned='' # SLURM has said that the time limit is near
ended=''  # SLURM ends the job
told=''   # the last line of the log is written

# The last line of a job's log names the reason and what to do.
last() {
    told=1
    say "$*"
}

# Run a command and give its exit code. In the background: bash runs a trap only between commands, and so the signal
# would wait for the end of the training. A trap ends `wait`, not the child, which is then waited for again.
attend() {
    local code again
    "$@" &
    child=$!
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        code=$?
    done
    wait "$child" 2>/dev/null
    again=$?
    [ "$again" -eq 127 ] || code=$again
    child=''
    return "$code"
}

# Paths among the words, as mounts of the container: each at its own place, the folder for a file.
mounts() {
    local word path
    for word in "$PWD" "$@"; do
        path=${word#--*=}
        [ -e "$path" ] || continue
        [ -d "$path" ] || path=$(dirname -- "$path")
        path=$(realpath -s -- "$path")
        path=${path//\"/\"\"}
        printf 'type=bind,"source=%s","destination=%s"\0' "$path" "$path"
    done
}

# The command in front of segkit's own words: the image, or the program on PATH.
find_segkit() {
    local mount
    if [ -z "$image" ]; then
        segkit=(segkit)
        command -v segkit >/dev/null && return
        last "segkit is not on PATH on $(hostname); give --image, or --setup 'source venv/bin/activate'"
        exit 127
    fi
    if [ ! -e "$image" ]; then
        last "$image: no such image on $(hostname); give --image a path that every node sees"
        exit 2
    fi
    if ! command -v apptainer >/dev/null; then
        last "apptainer is not on PATH on $(hostname); give --setup 'module load apptainer', or what your site calls it"
        exit 127
    fi
    segkit=(apptainer run --pwd "$PWD")
    [ "$gpus" -eq 0 ] || segkit+=(--nv)
    while IFS= read -r -d '' mount; do segkit+=(--mount "$mount"); done < <(mounts "$@" | sort -zu)
    segkit+=("$image")
    # Packages of the host or of the user would win over those of the image.
    unset PYTHONPATH PYTHONHOME
    export APPTAINERENV_PYTHONNOUSERSITE=1
}

# Loader's workers and NCCL pass their data through /dev/shm.
shm_megabytes() { df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 {print $4}'; }

check_shm() {
    local free
    free=$(shm_megabytes)
    [ "${free:-0}" -ge 512 ] && return
    say "/dev/shm on $(hostname) has ${free:-no} MB free, less than 512: too small for many loader workers or for" \
        "NCCL; should the run die of SIGBUS, use --workers 0, or ask your site for a larger /dev/shm"
}

# What an exit code says, and what to do.
meaning() {
    case $1 in
        2) echo "segkit refused; the line above that begins with 'segkit:' says why and what to do" ;;
        75) echo "stopped by a signal (scancel, preemption or the time limit); what was done is saved" ;;
        126 | 127) echo "a command was not found or cannot be run on a node; see the lines above, and --setup" ;;
        135) echo "killed by SIGBUS: /dev/shm is too small ($(shm_megabytes) MB free now); use --workers 0" ;;
        137) echo "killed by SIGKILL, most often for memory: ask for more (--mem); see sacct -j $SLURM_JOB_ID -o State,MaxRSS" ;;
        138) echo "the signal before the time limit came before the work had begun: ask for more --time" ;;
        139) echo "killed by SIGSEGV: a crash below Python; see the lines above" ;;
        143) echo "stopped by SIGTERM (scancel, preemption or the time limit)" ;;
        255) echo "srun or the container could not start it; see the lines above" ;;
        *) echo "failed; see the lines above" ;;
    esac
}

# Run the words on every node of the job, as one task each, which passes signals on and cleans up behind itself.
# The words of this shell that the task needs travel with it; the other nodes do not have this script.
on_nodes() {
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # since SLURM 22.05 srun does not take it from the job
    # Not --kill-on-bad-exit: it would kill the ranks that still save. One that hangs is killed after two minutes.
    attend srun --ntasks="${SLURM_JOB_NUM_NODES:-1}" --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=120 \
        bash -c "$(declare -p image gpus stage job)
child='' told=''
$(declare -f say last attend mounts find_segkit shm_megabytes check_shm begin on_node)
on_node \"\$@\"" segkit-node "$@"
}

# Until segkit listens to the warning itself, it is ignored: by default it would end the process.
begin() {
    trap '' USR1
    exec "$@"
}

on_node() {
    local code base scratch=''
    trap '[ -z "$child" ] || kill -USR1 "$child"' USR1
    trap '[ -z "$child" ] || kill -TERM "$child"' TERM
    local words=("$@")
    if [ -n "$stage" ]; then
        base=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/segkit-$SLURM_JOB_ID-${SLURMD_NODENAME:-$(hostname)}
        rm -rf -- "$base".?????? # of an earlier start that was killed outright
        # Removed behind the job, also when it is stopped.
        scratch=$(mktemp -d "$base.XXXXXX") || {
            last "--stage: no node-local folder on $(hostname); set SLURM_TMPDIR or TMPDIR with --setup"
            exit 2
        }
        trap 'rm -rf -- "$scratch"' EXIT
        export SEGKIT_CACHE=$scratch/cache
        words+=("--stage=$scratch/data")
    fi
    find_segkit "${scratch:-.}" "$@"
    [ "$gpus" -eq 0 ] || check_shm
    attend begin "${segkit[@]}" "${words[@]}"
    code=$?
    [ "$code" -eq 0 ] || say "segkit on $(hostname) (${SLURMD_NODENAME:-?}) ended with exit code $code"
    exit "$code"
}

# Back into the queue, under the same number: it goes on where it was.
requeue() {
    last "$1; requeued (start $((${SLURM_RESTART_COUNT:-0} + 2)) follows)"
    if scontrol requeue "$SLURM_JOB_ID"; then
        sleep 60 # SLURM ends this shell
        exit 0
    fi
    last "$1, but SLURM refused to requeue (see above); $2"
    exit 75
}

# A job that this shell leaves by any other way says so, too.
trap 'code=$?; [ -n "$told" ] || say "the batch script itself ended with exit code $code; see the lines above"' EXIT
# Through SLURM and not through srun, which takes SIGTERM for an order to kill. USR1 is sent again for those who were
# still starting.
warn() {
    warned=1
    say "the time limit is near: asking for an end"
    [ -n "$child" ] || return
    scancel --signal="$stop" "$SLURM_JOB_ID"
    [ "$stop" = USR1 ] || return
    while sleep 10; do scancel --signal=USR1 "$SLURM_JOB_ID" || break; done 2>/dev/null &
}
trap warn USR1
# Not passed on: SLURM sends it to the tasks itself.
trap 'ended=1; [ -n "$told" ] || say "SLURM ends the job (scancel, preemption or the time limit)"' TERM

say "start $((${SLURM_RESTART_COUNT:-0} + 1)) on ${SLURM_JOB_NODELIST:-$(hostname)}," \
    "${SLURM_CPUS_PER_TASK:-1} CPUs and $gpus GPUs a node, in $PWD"
# Numerical libraries start a thread a CPU of the machine where nobody tells them what was granted.
ranks=${ranks:-$gpus}
threads=$((${SLURM_CPUS_PER_TASK:-1} / (ranks > 0 ? ranks : 1)))
export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
export PYTHONUNBUFFERED=1 # a log shows at once what was said
setup || {
    code=$?
    last "--setup ended with exit code $code; see the lines above"
    exit "$code"
}
