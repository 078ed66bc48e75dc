# --- the job: measure one cell of a study, or gather what the array has measured ---

stop=TERM # ends the measurement at hand; those that are done are kept
[ -z "${SLURM_ARRAY_TASK_ID-}" ] || arguments+=("--task=$SLURM_ARRAY_TASK_ID")

on_nodes bench sweep "${arguments[@]}"
code=$?
if [ "$code" -eq 0 ]; then
    last "finished"
elif [ -n "$warned" ]; then
    # Not requeued: a measurement is not made of two halves, and would not fit the next time either.
    last "exit code $code: this measurement does not fit into the time limit; ask for more --time and submit the study" \
        "again, which measures what is missing"
elif [ -n "$ended" ]; then
    last "exit code $code: ended by SLURM (scancel, preemption or the time limit); submit the study again, which measures" \
        "what is missing"
else
    last "exit code $code: $(meaning "$code"). Submit the study again, which measures what is missing"
fi
exit "$code"
