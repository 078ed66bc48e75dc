"""The verdicts: a title for each kind, and what to change, most effective first."""

from __future__ import annotations

from collections.abc import Callable

from segkit.profiling.summary import RunSummary

# kind -> title. A stall is any share of the time in which the device does not compute.
KINDS = {
    "none": "The device is busy: nothing to gain from the data side",
    "prep": "Decoding bounds this job",
    "fetch": "Storage bounds this job",
    "loader": "The loader bounds this job",
    "copy": "Copying to the device bounds this job",
    "straggler": "One rank holds the others back",
    "sync": "Exchanging gradients bounds this job",
    "validate": "Validation takes a large part of the time",
    "checkpoint": "Writing checkpoints takes a large part of the time",
    "host": "The host bounds this job",
    "other": "Work between the epochs takes a large part of the time",
    "unknown": "Too few steps to tell",
}

ASK_PROFILE = "`segkit profile` measures which number pays."

ADVICE: dict[str, list[str]] = {
    "none": [],
    "prep": [
        "Decode once instead of at each access: `--loader packed` (or `resident`, where the set fits on the device).",
        f"More loader workers, up to the granted CPUs: {ASK_PROFILE}",
        "Smaller or uncompressed files; augmentation on the device instead of in the loader.",
    ],
    "fetch": [
        "Copy the data to node-local storage before the job, or pack it into one file (`--loader packed`): one large "
        "sequential read instead of many small ones.",
        "Ask for enough memory that the page cache holds the set: then only the first epoch reads from storage.",
        "More loader workers or a longer prefetch hide latency, not a lack of bandwidth.",
    ],
    "loader": [
        "Decode once instead of at each access: `--loader packed`.",
        f"More loader workers: {ASK_PROFILE}",
        "The loader used little CPU while it was waited for: look for locks, sleeps or a slow network file system.",
    ],
    "copy": [
        "Pinned host memory and `non_blocking=True` copies; send uint8 and convert on the device.",
        "Keep the whole set on the device: `--loader resident`.",
        "Copy the next batch on a stream of its own while the net computes.",
    ],
    "straggler": [
        "Look at that rank's node: other jobs on it, fewer CPUs granted, a throttled GPU, slower storage.",
        "Give every rank the same share of CPUs and of the data; batches of equal cost.",
        "Exclude the node (`sbatch --exclude`) if it stays slow.",
    ],
    "sync": [
        "More images a step on each rank (`--batch`, or `--accumulate`): fewer exchanges for the same work.",
        "Check that ranks talk over the fast interconnect (NCCL_DEBUG=INFO names it).",
        "Fewer ranks may be as fast for a net this small.",
    ],
    "validate": [
        "Validate less often or on fewer slices, or with a larger batch.",
        "Give validation the loader workers that training has.",
    ],
    "checkpoint": [
        "Write checkpoints less often (`--checkpoint-seconds`), or to node-local storage.",
    ],
    "host": [
        "Larger batches: the same launches for more images.",
        "`--compile`, or CUDA graphs: fewer launches.",
        "Less Python, logging and `.item()` between steps.",
    ],
    "other": [
        'Name what happens there with `with profiler.phase("...")`, and do it less often.',
    ],
    "unknown": ["Let the job run longer."],
}


def _low_tensor(summary: RunSummary) -> bool:
    shares = [device.tensor for device in summary.devices if device.tensor is not None]
    return bool(shares) and max(shares) < 0.15


def _low_sm(summary: RunSummary) -> bool:
    shares = [device.sm for device in summary.devices if device.sm is not None]
    return bool(shares) and max(shares) < 0.5


def _much_free_memory(summary: RunSummary) -> bool:
    known = [(d.memory_peak, d.info.memory_total) for d in summary.devices]
    return any(peak is not None and total and peak < 0.5 * total for peak, total in known)


def _throttled(summary: RunSummary) -> bool:
    return any(share > 0.1 for device in summary.devices for share in device.throttled.values())


# For a device that is busy: what could make its work cheaper, and when that is worth saying.
WORKLOAD_CHANGES: list[tuple[str, Callable[[RunSummary], bool]]] = [
    ("The tensor cores are mostly idle: `--precision bf16` and channels-last use them.", _low_tensor),
    ("Fewer than half of the SMs are busy although a kernel is always running: a larger batch fills them.", _low_sm),
    ("More than half of the device's memory is free: a larger batch fits.", _much_free_memory),
    ("The device was throttled for more than a tenth of the time: look at power limit and cooling.", _throttled),
]
