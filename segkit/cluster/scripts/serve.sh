# --- the job: serve models until the time limit, and again after it ---

stop=TERM # accepted requests are finished
port=${port:-$((20000 + SLURM_JOB_ID % 20000))} # one a job, so that two on a node do not meet
say "from your own machine: ssh -N -L 8000:127.0.0.1:$port -J LOGIN_NODE $(hostname), then http://127.0.0.1:8000/"

on_nodes serve "--port=$port" "${arguments[@]}"
code=$?
[ "$code" -ne 143 ] || [ -z "$warned$ended" ] || code=0 # the server ends by the signal, once it has answered
if [ -n "$warned" ] && [ "$code" -eq 0 ]; then
    requeue "the time limit came, accepted requests were answered" "submit the same again"
elif [ -n "$ended" ] && [ "$code" -eq 0 ]; then
    last "ended by SLURM (scancel, preemption or the time limit); accepted requests were answered"
else
    last "exit code $code: $(meaning "$code")"
fi
exit "$code"
