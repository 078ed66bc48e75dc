# --- the job: every n-th scan of a list, some at a time, so that a requeued task goes on with the next ones ---

stop=TERM # masks are written whole or not at all
each=32   # scans of one call: starting segkit and loading the model is paid for once for all of them
tasks=${tasks:-${SLURM_ARRAY_TASK_COUNT:-1}}
task=${SLURM_ARRAY_TASK_ID:-0}
if [ -z "$list" ]; then # typed behind the script's name
    list=${arguments[0]-}
    arguments=("${arguments[@]:1}")
fi
output=${output:-masks}
if [ ! -r "$list" ]; then
    last "${list:-no list}: cannot be read; give a file with the path of a scan on each line"
    exit 2
fi
if ! mkdir -p -- "$output"; then
    last "$output: cannot be made; choose another --output"
    exit 2
fi
mapfile -t scans < <(awk -v n="$tasks" -v k="$task" 'NF && i++ % n == k' "$list")
# A line for each call that has ended, its exit code; kept for a job that is requeued.
record=$output/.segkit-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}-$task
touch -- "$record"
done_before=$(wc -l <"$record")
[ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || arguments+=(--force) # masks of the call that was stopped

code=0
while [ -z "$warned$ended" ]; do
    first=$(($(wc -l <"$record") * each))
    [ "$first" -lt "${#scans[@]}" ] || break
    on_nodes segment "--output=$output" "${arguments[@]}" -- "${scans[@]:first:each}"
    code=$?
    # 2: some of the scans could not be read; segkit has named them, and the others are done.
    case $code in 0 | 2) echo "$code" >>"$record" ;; *) break ;; esac
done

count=$(wc -l <"$record")
remaining=$((${#scans[@]} - count * each))
where="task $task of $tasks, ${#scans[@]} scans"
if [ "$remaining" -le 0 ]; then
    failed=$(grep -c '^2' "$record")
    rm -f -- "$record"
    if [ "$failed" -eq 0 ]; then
        last "finished: $where; the masks are in $output"
        exit 0
    fi
    last "exit code 2: $where: some could not be segmented; lines above that begin with 'segkit:' name them and say why." \
        "The other masks are in $output"
    exit 2
elif [ -n "$warned" ] && [ "$count" -gt "$done_before" ]; then
    requeue "the time limit came with $remaining of $where left" "submit the task again"
elif [ -n "$warned" ]; then
    last "exit code $code: the time limit came before even $each scans were done; ask for more --time ($where)"
else
    last "exit code $code: $(meaning "$code"), with $remaining of $where left"
fi
exit "$([ "$code" -ne 0 ] && echo "$code" || echo 75)"
