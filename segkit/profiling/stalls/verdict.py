"""The verdict of a differential stall analysis."""

from __future__ import annotations

from segkit.profiling.advice import ADVICE, ASK_PROFILE, KINDS
from segkit.profiling.stalls.differential import DISTURBED
from segkit.profiling.stalls.measure import choose
from segkit.profiling.summary import Differential, Interval, Verdict, WorkerPoint
from segkit.profiling.text import percent

LEAST_STALL = 0.05  # of the time, for a stall to bound the job
TOO_WIDE = 0.25  # half of a rate's interval over the rate, to judge anything by it
TITLES = {
    **KINDS,
    "none": "The net itself bounds this job",  # nothing else was run
    "unknown": "The rates vary too much to tell",
}
REPEAT = "Repeat it on a quiet machine, or with a longer `--seconds`."


def decide_differential(differential: Differential) -> Verdict:
    """What bounds the job, which loader setting to use, and what to expect."""
    stalls = differential.stalls
    shares = {"prep": stalls.prep_stall, "fetch": _over_all_epochs(differential), "copy": stalls.copy_share}
    certain = {kind: share for kind, share in shares.items() if share is not None and _is_real(share)}
    kind = max(certain, key=lambda k: certain[k].value) if certain else "none"
    if max(_widths(differential), default=0.0) > TOO_WIDE:
        kind = "unknown"
    chosen = next((point for point in differential.curve if point.chosen), None)
    return Verdict(
        kind,
        TITLES[kind],
        _sentence(differential, chosen),
        _advice(differential, kind, chosen),
        _sure(differential),
    )


def _is_real(share: Interval) -> bool:
    """At least a twentieth of the time, and more than noise."""
    return share.value >= LEAST_STALL and (share.low is None or share.low > 0)


def _first_epoch_only(differential: Differential) -> bool:
    """Whether the memory that was free holds the data, so that storage is read from once."""
    data, memory = (differential.settings.get(key) for key in ("data_bytes", "memory_bytes"))
    return data is not None and bool(memory) and data < memory


def _over_all_epochs(differential: Differential) -> Interval | None:
    """The fetch stall as a share of the whole job: in its first epoch only, where memory holds the data afterwards."""
    stall = differential.stalls.fetch_stall
    epochs = differential.settings.get("epochs", 1)
    if stall is None or not _first_epoch_only(differential):
        return stall
    low, high = (None if end is None else end / epochs for end in (stall.low, stall.high))
    return Interval(stall.value / epochs, low, high)


def _sentence(differential: Differential, chosen: WorkerPoint | None) -> str:
    stalls, settings = differential.stalls, differential.settings
    device = "net" if settings.get("on_cpu") else "accelerator"
    once = _first_epoch_only(differential)
    usual = stalls.warm if once or stalls.cold is None else stalls.cold
    lost = 1 - usual.value / stalls.compute.value if stalls.compute.value else 0.0
    told = [f"{_percent(stalls.prep_stall)} decoding"]
    told += [f"{_percent(stalls.copy_share)} copies"] if stalls.copy_share is not None else []
    if stalls.fetch_stall is not None:
        when = "in the first epoch, until memory holds the data" if once else "in every epoch"
        told.append(f"{_percent(stalls.fetch_stall)} storage {when}")
    setting = f"loader {settings['loader']} and {_workers(settings['workers'])}"
    said = f"With {setting} the {device} loses {percent(max(0.0, lost))} of its time: {', '.join(told)}."
    if chosen is None or chosen.images_per_s is None:
        return said
    expected = f"expect {chosen.images_per_s.value:.4g} images/s"
    most = f"the net alone does {stalls.compute.value:.4g}"
    if (chosen.loader, chosen.workers) == (settings["loader"], settings["workers"]):
        return f"{said} Keep it: {expected}; {most}."
    other = f"loader {chosen.loader} and " if chosen.loader != settings["loader"] else ""
    return f"{said} Use {other}{_workers(chosen.workers)}: {expected} (now {stalls.warm.value:.4g}; {most})."


def _advice(differential: Differential, kind: str, chosen: WorkerPoint | None) -> list[str]:
    settings = differential.settings
    advice = []
    if chosen is not None:
        flags = f"--loader {chosen.loader} --workers {chosen.workers}"
        better = [variant.flags for variant in differential.variants if variant.pays]
        if chosen.workers and not any(flag.startswith("--prefetch") for flag in better):
            flags += f" --prefetch {settings['prefetch']}"
        advice.append(f"`{' '.join([flags, *better])}`")
        if chosen.loader != settings["loader"]:
            advice += _best_of_present(differential)
    advice += [f"{v.name.capitalize()}: {100 * v.gain:+.1f} % images/s." for v in differential.variants]
    if kind == "unknown":
        return [REPEAT, *advice]
    return advice + [text for text in ADVICE[kind] if not text.endswith(ASK_PROFILE)]  # it has just done so


def _best_of_present(differential: Differential) -> list[str]:
    """What to do for those who keep the present loader."""
    loader = differential.settings["loader"]
    points = choose([point for point in differential.curve if point.loader == loader])
    best = next((point for point in points if point.chosen), None)
    if best is None or best.images_per_s is None:
        return []
    return [f"Best of loader {loader}: {_workers(best.workers)}, {best.images_per_s.value:.4g} images/s."]


def _sure(differential: Differential) -> str:
    stalls = differential.stalls
    known = _widths(differential)
    shown = f"rates known to ± {percent(max(known), 1)}" if known else "too few steps for intervals"
    word = "Sure" if len(known) == 2 and max(known) < 0.03 else "Less sure"
    if DISTURBED in stalls.notes:
        return f"Not sure: {DISTURBED}; repeat it on a quiet machine."
    verification = differential.verification
    checked = "not verified by a longer run (--verify)"
    if verification is not None:
        checked = (
            f"a verifying run gave {verification.measured.value:.4g} images/s for {verification.predicted:.4g} "
            f"predicted: the prediction {'held' if verification.holds else 'did not hold'}"
        )
        word = word if verification.holds else "Not sure"
    return f"{word}: {shown}; {checked}."


def _widths(differential: Differential) -> list[float]:
    """How well the rates of the net and of the pipeline are known, where that is known."""
    widths = [rate.relative_half_width for rate in (differential.stalls.compute, differential.stalls.warm)]
    return [width for width in widths if width is not None]


def _percent(share: Interval) -> str:
    text = f"{percent(max(0.0, share.value))}"
    if share.low is not None and share.high is not None:
        text += f" [{percent(max(0.0, share.low))}, {percent(max(0.0, share.high))}]"
    return text


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
