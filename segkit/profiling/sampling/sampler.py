"""Samples the devices and the host of one node, beside the training and never in its way."""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from segkit.errors import ConfigError, SegkitError
from segkit.profiling.records import DeviceSample, HostSample, LineFile, SamplerInfo, write_info
from segkit.profiling.sampling.device_reader import DeviceReader
from segkit.profiling.sampling.devices import Selection, named, visible
from segkit.profiling.sampling.gaps import Gaps
from segkit.profiling.sampling.gpm import SPAN
from segkit.profiling.sampling.host_stats import HostStats
from segkit.profiling.sampling.nvml import Nvml, NvmlError
from segkit.profiling.sampling.occupants import UNSEEN, Occupants
from segkit.resources import granted_cpus

FLUSH_SECONDS = 5.0
STOP_SECONDS = 3.0  # a driver that hangs is not waited for longer
SHORTEST = 0.05  # seconds between samples


@dataclass(frozen=True)
class Reading:
    """The latest sample, for a line on the terminal. Shares are 0 to 1."""

    t: float
    util: float | None  # mean over the devices
    memory: float | None  # share of the devices' memory in use
    power: float | None  # watts, all devices together
    cpus: float | None  # that the process and those it started use


class Sampler:
    """A thread that samples until it is stopped. Whatever goes wrong in it becomes an entry in `missing`."""

    def __init__(
        self,
        folder: Path,
        *,
        devices: Sequence[str] | None,
        interval: float = 0.5,
        pid: int | None = None,
        ranks: Sequence[int] = (),
    ) -> None:
        """Prepare; `start` begins.

        Args:
            folder: where gpu-<host>.jsonl, host-<host>.jsonl and sampler-<host>.json go.
            devices: UUIDs, GPU-... or MIG-...; empty: none. None: those on which the process `pid` and its
                descendants compute, or without a `pid` those that CUDA shows this process.
            interval: seconds between samples, at least 0.05.
            pid: the process whose use of the host is recorded, with its descendants; by default this one.
            ranks: instead of one, the processes of this node's ranks.

        Raises:
            ConfigError: the interval is not allowed.
        """
        if not SHORTEST <= interval < float("inf"):
            raise ConfigError("interval", interval, f"a number of seconds, {SHORTEST} or more")
        host = socket.gethostname()
        self.info = SamplerInfo(host=host, interval=interval, cpus=granted_cpus(), machine_cpus=os.cpu_count())
        self._roots = tuple(ranks) or ((os.getpid() if pid is None else pid),)
        self.info.processes = len(self._roots)
        self._names, self._pid, self._interval = devices, pid, interval
        self._gpu_file = LineFile(folder / f"gpu-{host}.jsonl")
        self._host_file = LineFile(folder / f"host-{host}.jsonl")
        self._info_file = folder / f"sampler-{host}.json"
        self._gaps = Gaps()
        self._nvml: Nvml | None = None
        self._occupants: Occupants | None = None
        self._readers: list[DeviceReader] = []
        self._latest: Reading | None = None
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # --- on the caller's thread ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to sample; returns at once. A second call does nothing."""
        if self._thread is None:
            atexit.register(self.stop)  # for a program that ends without calling it
            self._started = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="segkit-sampler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take a last sample, write everything and end. Waits 3 seconds at most."""
        atexit.unregister(self.stop)
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            self._gaps.note("samples to the end", f"the driver has not answered for {STOP_SECONDS:.0f} s")
            self._write()

    def latest(self) -> Reading | None:
        """The latest sample; None before the first."""
        return self._latest

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- on the sampler's thread -----------------------------------------------------------------

    def _run(self) -> None:
        try:
            host = HostStats(*self._roots)
            self._gaps.add(host.missing())
            self._open()
            self._gaps.changed = True
            self._write()
            self._loop(host)
        except Exception as error:  # training goes on, whatever this is; the report names it
            self._gaps.note("samples from some time on", f"the sampler failed: {type(error).__name__}: {error}")
        finally:
            self._close()

    def _loop(self, host: HostStats) -> None:
        sampled = written = time.monotonic()
        least = max(self._interval / 2, SPAN)  # at the end: rates over a moment would be noise
        while True:
            stopping = self._stop.wait(sampled + self._interval - time.monotonic())
            if not stopping or time.monotonic() - sampled >= least:
                sampled = time.monotonic()
                self._sample(host)
            if stopping:
                return
            if self._gaps.changed or time.monotonic() - written >= FLUSH_SECONDS:
                self._write()
                written = time.monotonic()

    def _sample(self, host: HostStats) -> None:
        t = time.time()
        used = host.read(t)
        self._host_file.add(used)
        if self._occupants is not None:
            self._add(self._occupants.look())
        samples = []
        for reader in list(self._readers):
            try:
                samples.append(reader.read(t))
            except NvmlError as error:
                self._lose(reader, error)
        for sample in samples:
            self._gpu_file.add(sample)
        self._latest = self._summarise(used, samples)

    def _summarise(self, host: HostSample, samples: list[DeviceSample]) -> Reading:
        util, power = [s.util for s in samples if s.util is not None], [s.power for s in samples if s.power is not None]
        totals = {device.uuid: device.memory_total for device in self.info.devices}
        memory = [(s.memory, total) for s in samples if s.memory is not None and (total := totals[s.gpu])]
        cpus = [used for used in (host.cpu_main, host.cpu_workers) if used is not None]
        return Reading(
            t=host.t,
            util=sum(util) / len(util) if util else None,
            memory=sum(used for used, _ in memory) / sum(total for _, total in memory) if memory else None,
            power=sum(power) if power else None,
            cpus=sum(cpus) if cpus else None,
        )

    # --- devices ---------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._names is not None and not self._names:
            return
        try:
            self._nvml = Nvml()
            self.info.driver = self._nvml.driver()
            self._choose(self._nvml)
        except NvmlError as error:
            self._gaps.note("GPU measurements", error.why)

    def _choose(self, nvml: Nvml) -> None:
        if self._names is not None:
            self._add(named(nvml, self._names))
        elif self._pid is None:
            self._add(visible(nvml, os.environ))
        else:
            self._occupants = Occupants(nvml, self._pid)

    def _add(self, selection: Selection) -> None:
        self._gaps.add(selection.missing)
        for device in selection.devices:
            if self._nvml is None or any(known.uuid == device.uuid for known in self.info.devices):
                continue
            self.info.devices.append(device.info)
            self._gaps.changed = True
            try:
                self._readers.append(DeviceReader(self._nvml, device, self._gaps))
            except NvmlError as error:
                self._gaps.note("all measurements", error.why, device.uuid)

    def _lose(self, reader: DeviceReader, error: NvmlError) -> None:
        self._readers.remove(reader)
        reader.close()
        seconds = time.monotonic() - self._started
        self._gaps.note(f"measurements of {reader.device.uuid} from {seconds:.0f} s on", error.why)

    # --- files -----------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            self._gpu_file.flush()
            self._host_file.flush()
            if self._gaps.changed:
                self.info.missing = self._gaps.tell([device.uuid for device in self.info.devices])
                write_info(self._info_file, self.info)
        except (OSError, SegkitError) as error:
            self._gaps.note("some samples", f"they could not be written: {error}")

    def _close(self) -> None:
        for reader in self._readers:
            reader.close()
        if self._occupants is not None and self._occupants.none_seen:
            self._gaps.note("GPU measurements", UNSEEN)
        if self._nvml is not None:
            self._nvml.close()
        self._gaps.changed = True
        self._write()
