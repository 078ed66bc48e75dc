# --- the job: train, one task a node, which starts the node's ranks ---

stop=USR1 # segkit train saves between two steps and ends with exit code 75
# NCCL says what is wrong in a line, instead of nothing. Its choice of network is left alone: it prefers InfiniBand, and
# where it picks the wrong one, --setup 'export NCCL_SOCKET_IFNAME=...' is the remedy.
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}
# A rank that waits for a lost one is ended instead of waiting until the time limit.
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1

for i in "${!arguments[@]}"; do # typed behind the script's name
    case ${arguments[i]} in
        --run | --run-dir) run=${arguments[i + 1]-} ;;
        --run=* | --run-dir=*) run=${arguments[i]#*=} ;;
    esac
done
run=${run:-runs/slurm-$SLURM_JOB_ID}
if ! mkdir -p -- "$run"; then
    last "$run: cannot be made; choose another --run"
    exit 2
fi
attempt=$run/.attempt # younger than all checkpoints of earlier starts
: >"$attempt"
arguments+=("--run=$run" --resume)
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    # Taken here, on the host: the image has no scontrol. A port a job, so that two jobs on a node do not meet.
    address=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    arguments+=("--nodes=$SLURM_JOB_NUM_NODES" "--rendezvous=$address:$((20000 + SLURM_JOB_ID % 20000))")
fi

on_nodes train "--gpus=$ranks" "${arguments[@]}"
code=$?
saved=$(find "$run" -name last.pt -newer "$attempt" -print -quit)
rm -f -- "$attempt"
again="submit the same again with --run $(printf %q "$run")"
if [ "$code" -eq 0 ]; then
    last "finished; the run is $run"
elif [ -n "$warned" ] && [ -n "$saved" ] && { [ "$code" -eq 75 ] || [ "$code" -eq 143 ]; }; then
    requeue "the time limit came, the state is saved in $run" "$again"
elif [ -n "$warned" ] && [ -z "$saved" ]; then
    last "exit code $code: the time limit came before this start had saved anything; not requeued, for that would go on" \
        "for ever: ask for more --time, then $again"
elif [ -n "$ended" ] && [ -n "$saved" ]; then
    last "exit code $code: SLURM ended the job (scancel, preemption or the time limit); the state is saved in $run. To go" \
        "on, $again"
elif [ -n "$saved" ]; then
    last "exit code $code: $(meaning "$code"). To go on from the last checkpoint, $again"
else
    last "exit code $code: $(meaning "$code")"
fi
exit "$code"
