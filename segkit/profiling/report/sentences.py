"""What a report says in words beside its tables."""

from __future__ import annotations

from segkit.profiling.report import words
from segkit.profiling.report.tables import mean
from segkit.profiling.summary import RunSummary

NO_VERDICT = (
    "No verdict: these records do not tell what bounds the job. "
    "`segkit profile` measures it (the net alone, the loader warm and cold, each worker count)."
)


def extent(summary: RunSummary) -> str:
    """When the run began, how long it took and what it ran on, as far as that is known."""
    said = [words.clock(summary.started), words.duration(summary.seconds or None)]
    said += [words.count(len(summary.ranks), "rank") if summary.ranks else words.NONE]
    said += [words.count(len(summary.devices), "GPU") if summary.devices else words.NONE]
    return ", ".join(text for text in said if text != words.NONE)


def hidden_wait(summary: RunSummary) -> str:
    """The wait that did no harm."""
    if summary.hidden_wait_s <= 0 or not summary.seconds:
        return ""
    return (
        f"A further {words.duration(summary.hidden_wait_s)} of waiting for the loader "
        f"({words.share(summary.hidden_wait_s / summary.seconds)} of the time) cost nothing: "
        "the device still had queued work to do."
    )


def straggler(summary: RunSummary) -> str:
    """Whom the others waited for."""
    if summary.straggler is not None:
        return summary.straggler.sentence
    return "No rank held the others up." if len(summary.ranks) > 1 else ""


def energy(summary: RunSummary) -> str:
    """The run's energy."""
    if summary.energy is None:
        return ""
    said = f"The GPUs used {words.number(summary.energy.kwh, 'kWh')}, "
    said += f"{words.number(summary.energy.wh_per_1000_images, 'Wh')} for every 1,000 images"
    power = [device.power_mean for device in summary.devices]
    if mean(power) is not None:
        said += f", at a mean of {words.number(sum(value or 0.0 for value in power), 'W')} together"
    return said + ". CPUs, memory and cooling are not in this figure."


def verification(summary: RunSummary) -> str:
    """Whether the prediction held."""
    found = summary.differential.verification if summary.differential else None
    if found is None:
        return ""
    outcome = "the prediction holds (within 10 %)" if found.holds else "the prediction does not hold (off by over 10 %)"
    loader = f", loader {found.loader}" if found.loader else ""
    return (
        f"Verified with {words.count(found.workers, 'worker')}{loader}: "
        f"predicted {words.number(found.predicted)} images/s, measured {words.interval(found.measured)}: {outcome}."
    )
