"""The verdict: what bounds a job, in a sentence with figures, and what to change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segkit.profiling.advice import ADVICE, KINDS, WORKLOAD_CHANGES
from segkit.profiling.crowd import with_crowd
from segkit.profiling.samples import known
from segkit.profiling.samples_verdict import decide_from_samples
from segkit.profiling.stalls.verdict import decide_differential
from segkit.profiling.summary import RankSummary, RunSummary, Verdict
from segkit.profiling.text import percent

STEP_PARTS = ("compute", "optim", "starved", "copy", "sync", "host")  # of a run's time, those of its training steps
LEAST_SHARE = 0.10  # of the time, for a stall to bound the job
LEAST_VALIDATION = 0.20  # which takes a tenth wherever a sixth of the slices are for validation
LEAST_STEPS = 10
BUSY_WORKERS = 0.6  # of a CPU each: they decode rather than wait for storage
WORTH = 1.05  # times the present rate, for a change to be advised
STORAGE_SHARE = 0.3  # of the starvation in which storage was waited for, to be its cause


@dataclass(frozen=True)
class Stall:
    """A candidate: what takes which share of the time."""

    kind: str
    share: float


def decide(summary: RunSummary) -> Verdict | None:
    """The verdict of a run; None where nothing was measured.

    The differential analysis decides where there is one. Else the shares of the records do: the largest stall
    bounds the job if it takes at least a tenth of the time.
    """
    verdict = _decide(summary)
    return None if verdict is None else with_crowd(verdict, summary)


def _decide(summary: RunSummary) -> Verdict | None:
    if summary.differential is not None:
        return decide_differential(summary.differential)
    if not summary.steps:
        return decide_from_samples(summary)
    if summary.steps < LEAST_STEPS:
        sentence = f"Only {summary.steps} steps were timed; {LEAST_STEPS} are the least to tell what bounds a job."
        return Verdict("unknown", KINDS["unknown"], sentence, ["Let the job run longer."], "Not sure.")
    stalls = _stalls(summary)
    large = [s for s in stalls if s.share >= (LEAST_VALIDATION if s.kind == "validate" else LEAST_SHARE)]
    kind = max(large, key=lambda stall: stall.share).kind if large else "none"
    return Verdict(kind, KINDS[kind], _sentence(summary, stalls, kind), _advice(summary, kind), _sure(summary))


def _stalls(summary: RunSummary) -> list[Stall]:
    """Every stall, with the ranks' own waits told apart from those that one slow rank causes."""
    parts = ("copy", "sync", "host", "validate", "checkpoint", "other")
    shares = {part: summary.share(part) for part in parts}
    starved = summary.share("starved")
    if summary.straggler is not None:
        stepping = sum(summary.share(part) for part in STEP_PARTS)  # the ranks' shares are of their steps
        shares["straggler"] = summary.straggler.cost_share * stepping
        # The slow rank's own wait is its cause, and the others' all-reduce wait is its effect: neither counts twice.
        starved = min((_starved_share(rank) * stepping for rank in summary.ranks), default=starved)
        shares["sync"] = min((_sync_share(rank) * stepping for rank in summary.ranks), default=0.0)
    shares[_loader_kind(summary)] = starved
    return [Stall(kind, share) for kind, share in shares.items()]


def _starved_share(rank: RankSummary) -> float:
    return rank.starved_s / rank.step_s if rank.step_s else 0.0


def _sync_share(rank: RankSummary) -> float:
    return (rank.sync_s or 0.0) / rank.step_s if rank.step_s else 0.0


def _loader_kind(summary: RunSummary) -> str:
    """Whether a wait for the loader is a wait for decoding ("prep"), for storage ("fetch"), or untold ("loader").

    Without workers the waiting thread does the work itself: its CPU time tells. With workers theirs does, and the time
    in which they were ready to run but had no CPU. A loader that uses little CPU waits for something, and for storage
    if the kernel says that something did for a good part of that time.
    """
    busy = _loader_cpu_share(summary)
    if busy is not None and busy >= BUSY_WORKERS:
        return "prep"
    storage = max((host.io_wait or 0.0 for host in summary.hosts), default=0.0)
    return "fetch" if storage >= STORAGE_SHARE * max(summary.share("starved"), LEAST_SHARE) else "loader"


def _loader_cpu_share(summary: RunSummary) -> float | None:
    workers = _workers(summary)
    if workers == 0:
        return summary.wait_cpu_share
    used = [h.cpu_workers + (h.queued_workers or 0.0) for h in summary.hosts if h.cpu_workers is not None]
    total = (workers or 0) * sum(h.processes for h in summary.hosts if h.cpu_workers is not None)
    return sum(used) / total if used and total else None


def _workers(summary: RunSummary) -> int | None:
    text = summary.description.get("workers a rank", "")
    return int(text) if text.isdigit() else None


# --- words ---------------------------------------------------------------------------------------

STALL_WORDS = {
    "prep": "for decoding",
    "fetch": "for storage",
    "loader": "for the loader",
    "copy": "for copies",
    "straggler": "for one slow rank",
    "sync": "for gradients of other ranks",
    "host": "for the host between steps",
    "validate": "in validation",
    "checkpoint": "for checkpoints",
    "other": "in other work between epochs",
}


def _sentence(summary: RunSummary, stalls: Sequence[Stall], kind: str) -> str:
    shown = sorted((s for s in stalls if s.share >= 0.01), key=lambda stall: -stall.share)
    accelerator = "accelerator" if any(summary.devices) or _on_gpu(summary) else "net"
    waiting = [s for s in shown if s.kind != "validate"]
    total = sum(stall.share for stall in waiting)
    parts = ", ".join(f"{percent(stall.share)} {STALL_WORDS[stall.kind]}" for stall in waiting[:4])
    said = f"{percent(total)} of the time the {accelerator} waited" + (f": {parts}." if parts else ".")
    validation = next((s for s in shown if s.kind == "validate"), None)
    if validation is not None:
        said += f" Validation took {percent(validation.share)}."
    if kind == "straggler" and summary.straggler is not None:
        said += " " + summary.straggler.sentence
    if kind in ("prep", "fetch", "loader"):
        said += _hidden(summary)
    return said + _expectation(summary, kind)


def _on_gpu(summary: RunSummary) -> bool:
    return not summary.description.get("device", "CPU").endswith("CPU")


def _hidden(summary: RunSummary) -> str:
    share = summary.hidden_wait_s / summary.seconds if summary.seconds else 0.0
    return f" Another {percent(share)} of waiting was hidden by queued work." if share >= 0.01 else ""


def _expectation(summary: RunSummary, kind: str) -> str:
    """What the run would give without its largest stall."""
    if summary.images_per_s is None:
        return ""
    rate = summary.images_per_s.value
    if kind not in ("prep", "fetch", "loader", "copy"):
        return f" Training ran at {rate:.4g} images/s."
    wanted = workers_to_hide(summary)
    reached = without(summary, "copy" if kind == "copy" else "starved")
    if kind != "copy":
        most = rate_of_all_cpus(summary)
        reached = reached if most is None else min(reached, most)
        if reached < WORTH * rate:
            return (
                f" It ran at {rate:.4g} images/s; the net uses the same CPUs, and more workers would take them from it."
            )
    if kind == "copy" or wanted is None:
        return f" It ran at {rate:.4g} images/s; without this wait about {reached:.4g}."
    return f" Use {wanted} worker{'s' * (wanted > 1)}: expect up to {reached:.4g} images/s (now {rate:.4g})."


def without(summary: RunSummary, part: str) -> float:
    """Images a second of the training steps if one part took no time."""
    training = sum(summary.parts[p] for p in STEP_PARTS)
    rate = summary.images_per_s.value if summary.images_per_s else 0.0
    return rate * training / max(training - summary.parts[part], 1e-9)


def rate_of_all_cpus(summary: RunSummary) -> float | None:
    """Images a second if the granted CPUs did the same work of net and loader without a pause.

    The most that hiding the loader can give where the net computes on the CPUs, too. None on a GPU, or where the CPUs
    were not sampled.
    """
    if _on_gpu(summary) or summary.images_per_s is None:
        return None
    unseen = [_ranks_a_host(summary) / h.processes for h in summary.hosts]  # 1, unless only some ranks were sampled
    used = [sum(known([h.cpu_main, h.cpu_workers])) / h.cpus for h in summary.hosts]
    busy = [share * more for share, more in zip(used, unseen, strict=True)]
    return summary.images_per_s.value / max(busy) if busy and max(busy) > 0 else None


def _ranks_a_host(summary: RunSummary) -> int:
    return max(1, len(summary.ranks) // max(1, len(summary.hosts)))


def workers_to_hide(summary: RunSummary) -> int | None:
    """How many loader processes a rank would have to have so that the device does not wait for them.

    A loader that is waited for makes a batch in (its processes) x (time of a step); the device needs one in every
    (time of a step - starvation). None where the present number is unknown, or more than the granted CPUs are needed.
    """
    workers = _workers(summary)
    training = sum(summary.parts[p] for p in STEP_PARTS)
    busy = training - summary.parts["starved"]
    if workers is None or busy <= 0:
        return None
    work = summary.parts["starved"] if workers == 0 else workers * training
    wanted = max(workers + 1, math.ceil(work / busy))
    cpus = min((host.cpus for host in summary.hosts), default=0)
    return wanted if wanted <= max(1, cpus // _ranks_a_host(summary)) else None


def _advice(summary: RunSummary, kind: str) -> list[str]:
    advice = list(ADVICE[kind])
    most, rate = rate_of_all_cpus(summary), summary.images_per_s.value if summary.images_per_s else 0.0
    if kind in ("prep", "loader") and most is not None and most < WORTH * rate:
        advice.insert(0, "Loader and net share the CPUs: make the decoding cheaper, or ask for more CPUs.")
    elif kind in ("prep", "loader") and workers_to_hide(summary) is None and _workers(summary) is not None:
        advice.insert(
            0, "More workers than the granted CPUs would be needed: make the decoding cheaper, or ask for more CPUs."
        )
    if kind == "none":
        advice += [text for text, applies in WORKLOAD_CHANGES if applies(summary)]
    return advice


def _sure(summary: RunSummary) -> str:
    width = summary.images_per_s.relative_half_width if summary.images_per_s else None
    shown = f"{summary.steps:,} steps on {len(summary.ranks)} rank{'s' if len(summary.ranks) > 1 else ''}"
    if width is None:
        return f"Less sure: {shown}, too few for an interval."
    word = "Sure" if width < 0.03 else "Fairly sure" if width < 0.1 else "Less sure"
    clock = "device times from CUDA events" if _on_gpu(summary) else "times from the host's clock"
    more = "; `segkit profile` measures the split between storage and decoding, and worker counts"
    return f"{word}: {shown}, images/s ± {percent(width, 1)}, {clock}{more}."
