"""What each sampled quantity means, in a sentence; the keys are the fields of DeviceSample and HostSample."""

from __future__ import annotations

METRICS: dict[str, str] = {
    "util": "GPU utilisation: the share of time with at least one kernel running. It tells whether the GPU was busy, "
    "not how full it was: one small kernel counts as much as one that fills the chip, and so does an NCCL kernel that "
    "only waits for other ranks.",
    "sm": "SM activity: the share of the streaming multiprocessors, over time, that had work on them. It tells how "
    "full the chip was; low beside a high utilisation means kernels that are too small, so a larger batch may help.",
    "tensor": "Tensor activity: the share of time in which the tensor cores, the units for matrix products, computed. "
    "Near 0 in training means that mixed precision is off, or that other work takes the time.",
    "dram": "DRAM bandwidth: the share of the highest possible traffic between the GPU and its memory. Above about "
    "80 % the memory's speed limits the work, not the arithmetic.",
    "memory": "Memory in use on the device, by all programs on it and with what the framework holds in reserve.",
    "power": "Electrical power of the whole GPU, a mean over about the last second on recent models. Far below the "
    "power limit, the chip is not working at its full rate.",
    "energy": "Energy of the whole GPU since sampling began, by the GPU's own counter.",
    "sm_clock": "Clock of the streaming multiprocessors at this time.",
    "memory_clock": "Clock of the GPU's memory at this time.",
    "temperature": "Temperature of the GPU's chip at this time.",
    "throttle": "Why the clocks are held down at this time. A GPU at its power limit does so in normal heavy work; a "
    "temperature limit points at cooling.",
    "pcie_rx": "Traffic over PCIe to the GPU, such as batches.",
    "pcie_tx": "Traffic over PCIe from the GPU, such as results.",
    "cpu_main": "CPUs that the process itself used on average, for example 1.8 of them.",
    "cpu_workers": "CPUs that the processes started by it used together, in a training above all the loader's workers.",
    "workers": "Processes that the training process had started, the loader's workers among them.",
    "read": "Bytes a second that the process and those it started fetched from storage. What the system still held in "
    "memory from an earlier read (the page cache) does not count; some network file systems do not report theirs.",
    "io_wait": "The share of time in which some task of the job, or else of the machine, waited for storage.",
    "rss": "Memory of the process and those it started, added up: what they share counts once for each.",
    "cpu_machine": "CPUs that were busy on the whole machine, other people's work included.",
}
