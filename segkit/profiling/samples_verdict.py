"""The verdict on a program whose steps were not timed: what the samples of its devices and its host tell alone."""

from __future__ import annotations

from segkit.profiling.samples import known
from segkit.profiling.summary import HostSummary, RunSummary, Verdict
from segkit.profiling.text import percent

BUSY = 0.9  # utilisation from which on a GPU always had work
CPUS_FULL = 0.8  # of the granted CPUs
STORAGE = 0.2  # of the time
HOW_TO_KNOW = (
    'Time the steps to know what the GPUs wait for: `with Profiler("out") as p: for batch in p.watch(loader)` '
    "around the training loop."
)


def decide_from_samples(summary: RunSummary) -> Verdict | None:
    """What held the GPUs back, as far as samples tell; None where there are none."""
    if not summary.devices and not summary.hosts:
        return None
    utils = known([device.util for device in summary.devices])
    sure = "Less sure: from samples alone, no step was timed."
    if not utils:
        sentence = "No GPU's utilisation could be measured. " + _host_words(summary)
        return Verdict("unknown", "No GPU was seen at work", sentence.strip(), [HOW_TO_KNOW], sure)
    mean = sum(utils) / len(utils)
    said = f"A kernel was running {percent(mean)} of the time on {len(utils)} GPU{'s' if len(utils) > 1 else ''}"
    sm = known([device.sm for device in summary.devices])
    said += f", with {percent(sum(sm) / len(sm))} of the SMs at work. " if sm else ". "
    said += _host_words(summary)
    if mean >= BUSY:
        advice = ["A kernel that runs is not yet a full chip: look at SM and tensor activity."]
        return Verdict("none", "The GPUs always had work", said, advice, sure)
    kind, cause = _cause(summary)
    return Verdict(
        kind, f"The GPUs were idle {percent(1 - mean)} of the time", f"{said} {cause}".strip(), [HOW_TO_KNOW], sure
    )


def _host_words(summary: RunSummary) -> str:
    return " ".join(_one_host(host) for host in summary.hosts)


def _one_host(host: HostSummary) -> str:
    used = known([host.cpu_main, host.cpu_workers])
    return f"The program used {sum(used):.1f} of {host.cpus} CPUs on {host.host}." if used else ""


def _cause(summary: RunSummary) -> tuple[str, str]:
    """The likeliest reason for idle GPUs: full CPUs, then storage."""
    full = [sum(known([h.cpu_main, h.cpu_workers])) / h.cpus for h in summary.hosts if h.cpus]
    if full and max(full) >= CPUS_FULL:
        return "prep", "All granted CPUs were busy: decoding, or other work of the host, is the likeliest cause."
    if any((host.io_wait or 0.0) >= STORAGE for host in summary.hosts):
        return "fetch", "Storage was waited for much of the time: it is the likeliest cause."
    return "unknown", "Neither CPUs nor storage were at their limit."
