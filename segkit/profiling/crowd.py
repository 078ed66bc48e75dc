"""Other programs on the machine, which slow loader and net without any step's parts telling so."""

from __future__ import annotations

from dataclasses import replace

from segkit.profiling.samples import known
from segkit.profiling.summary import RunSummary, Verdict

FULL = 0.9  # of the machine's CPUs were busy
CROWDED = 0.15  # of them by other programs


def crowd(summary: RunSummary) -> str:
    """Where other programs took CPUs that this job could have used, in a clause; empty where none did.

    Told only of machines that are granted whole (elsewhere it is unknown whose CPUs the others are), and where every
    rank was sampled.
    """
    if len(summary.ranks) > sum(host.processes for host in summary.hosts):
        return ""
    for host in summary.hosts:
        cpus = host.machine_cpus
        if host.cpu_machine is None or not cpus or host.cpus < cpus:
            continue
        others = host.cpu_machine - sum(known([host.cpu_main, host.cpu_workers]))
        if host.cpu_machine >= FULL * cpus and others >= CROWDED * cpus:
            return f"other programs took {others:.1f} of the {cpus} CPUs of {host.host} meanwhile"
    return ""


def with_crowd(verdict: Verdict, summary: RunSummary) -> Verdict:
    """The verdict, less sure where the machine was crowded."""
    said = crowd(summary)
    if not said:
        return verdict
    word, _, why = verdict.sure.partition(": ")
    word = word.rstrip(".") if word.startswith("Not") else "Less sure"
    return replace(verdict, sure=f"{word}: {said}" + (f"; {why}" if why else "."))
