"""A profiler around any training loop.

    from segkit.profiling import Profiler

    with Profiler("out") as p:
        for batch in p.watch(loader):
            ...

samples the devices and times the steps; `segkit report out` tells where the time went. It needs nothing else of segkit.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from segkit.errors import SegkitError
from segkit.profiling.exchange import Exchange
from segkit.profiling.gradients import watch_buffers
from segkit.profiling.place import Place, device_in_use
from segkit.profiling.records import RankInfo, remove_records, write_info
from segkit.profiling.step_clock import StepClock
from segkit.resources import granted_cpus

if TYPE_CHECKING:
    import torch

    from segkit.profiling.sampling.sampler import Sampler

T = TypeVar("T")
_END = object()


class Profiler:
    """Times the steps of this rank; the first rank of a node also samples the node's devices."""

    def __init__(
        self,
        folder: Path | str,
        *,
        device: torch.device | str | None = None,
        interval: float = 0.5,
        workers: int | None = None,
        loader: str | None = None,
        quiet: bool = False,
        resume: bool = False,
        patience: float = 60.0,
    ) -> None:
        """Prepare; nothing is written before the `with` block begins.

        Args:
            folder: where the records go.
            device: the torch device of this rank. None: CUDA's current device once the program uses CUDA, else the CPU.
            interval: seconds between samples of the devices; 0: no sampling.
            workers: loader processes, where known. `watch` learns it from a PyTorch DataLoader.
            loader: a name for the kind of loader, for the report.
            quiet: do not print the verdict at the end.
            resume: go on after the records that are in the folder; else they are removed, for the numbers of their
                steps begin at 1 as this run's do.
            patience: seconds to wait for the job's other ranks to begin or end their profile, before this one goes on
                alone.
        """
        self.folder = Path(folder)
        self.place = Place.from_environment()
        self.clock = StepClock(self.folder, rank=self.place.rank)
        self._ranks = Exchange(self.place.rank, self.place.world, patience)
        self._device, self._interval, self._quiet, self._resume = device, interval, quiet, resume
        self._workers, self._loader = workers, loader
        self._sampler: Sampler | None = None
        self._epoch = self._step = 0
        self._described = False
        self._unhook: list[Any] = []

    # --- begin and end ---------------------------------------------------------------------------

    def __enter__(self) -> Profiler:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.place.rank == 0 and self._ranks.in_touch and not self._resume:
            remove_records(self.folder)
        device = device_in_use(self._device)
        first_here, uuids, ranks = self._meet(_uuid(device))  # they write from here on: they have met the first one
        if device is not None:
            self._describe()
        if first_here and self._interval > 0:
            from segkit.profiling.sampling.sampler import Sampler

            devices = uuids if device is not None else None  # None: those that the program will use
            self._sampler = Sampler(self.folder, devices=devices, interval=self._interval, ranks=ranks)
            self._sampler.start()
        self.clock.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._unhook:
            hook.remove()
        self._unhook.clear()
        with contextlib.suppress(Exception) if error is not None else contextlib.nullcontext():
            self.clock.flush()
        if self._sampler is not None:
            self._sampler.stop()
        if error is None:
            self._ranks.gather("")  # the records of all ranks are written before one of them reads them
            if self.place.rank == 0 and not self._quiet:
                self._print_verdict()

    def _meet(self, uuid: str | None) -> tuple[bool, list[str], list[int]]:
        """Whether this is the first rank of its node; the UUIDs of the GPUs and the processes of the node's ranks."""
        texts = self._ranks.gather(json.dumps([self.place.host, uuid, _process_space(), os.getpid()]))
        said: list[list[Any]] = [json.loads(text) if text is not None else ["", None, "", 0] for text in texts]
        first = self.place.host not in [host for host, *_ in said[: self.place.rank]]
        if not self._ranks.in_touch:
            first = self.place.local_rank == 0
        uuids = sorted({uuid for host, uuid, _, _ in said if host == self.place.host and uuid})
        here = [self.place.host, _process_space()]  # another container's numbers mean nothing here
        return first, uuids, [pid for host, _, space, pid in said if [host, space] == here]

    def _describe(self) -> None:
        """Write down where this rank runs."""
        device = device_in_use(self._device)
        self.clock.use(device)
        name = "CPU"
        if device is not None and device.type == "cuda":
            import torch

            name = torch.cuda.get_device_name(device)
        info = RankInfo(
            rank=self.place.rank,
            world=self.place.world,
            host=self.place.host,
            device=device.type if device is not None else "cpu",
            uuid=_uuid(device),
            name=name,
            threads=sys.modules["torch"].get_num_threads() if "torch" in sys.modules else granted_cpus(),
            workers=self._workers,
            loader=self._loader,
            pid=os.getpid(),
        )
        write_info(self.folder / f"rank{self.place.rank}.json", info)
        self._described = True

    def _print_verdict(self) -> None:
        from segkit.profiling.analysis import summarise

        try:
            verdict = summarise(self.folder).verdict
        except SegkitError as error:  # nothing was recorded; that is no reason to fail for the program around
            print(f"profile: {error}", file=sys.stderr)
            return
        if verdict is not None:
            print(f"profile: {verdict.sentence} (segkit report {self.folder})", file=sys.stderr)

    # --- around a loop ---------------------------------------------------------------------------

    def watch(self, loader: Iterable[T], *, epoch: int | None = None) -> Iterator[T]:
        """The batches of `loader`, timed: a step is from asking for one batch to asking for the next.

        Call it once an epoch. What happens between two calls counts as a phase; `phase` gives it a name.
        """
        if self._step:
            self._epoch += 1
            with self.clock.phase("other", self._epoch - 1):
                pass
        else:
            self.clock.restart()  # what came before the first step is no part of it
        self._epoch = self._epoch if epoch is None else epoch
        workers = getattr(loader, "num_workers", self._workers)
        if workers != self._workers:
            self._workers, self._described = workers, False
        source: Iterator[T] | None = None
        while True:
            with self.clock.waiting():
                source = iter(loader) if source is None else source
                batch: Any = next(source, _END)
            if batch is _END:
                return
            if not self._described:
                self._describe()
            self.clock.switch("compute")
            try:
                yield batch
            finally:
                self._step += 1
                self.clock.end_step(self._epoch, self._step, batch_size(batch))

    @contextlib.contextmanager
    def copying(self) -> Iterator[None]:
        """Around the copy of a batch to the device, inside the loop."""
        self.clock.switch("copy")
        try:
            yield
        finally:
            self.clock.switch("compute")

    def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Around work between epochs: "validate", "checkpoint", or a name of your own."""
        return self.clock.phase(name, self._epoch)

    def attach(self, *, model: torch.nn.Module | None = None, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Tell the optimiser's step and the exchange of gradients apart from forward and backward, by hooks."""
        if model is not None and self.place.world > 1:
            self._unhook += [
                self.clock.watch_gradients(model.parameters()),
                *watch_buffers(model, self.clock.switch),
            ]
        if optimizer is not None:
            self._unhook += [
                optimizer.register_step_pre_hook(lambda *_: self.clock.switch("optim")),
                optimizer.register_step_post_hook(lambda *_: self.clock.switch("compute")),
            ]

    def live(self) -> str:
        """A few words for a progress line: the stall share of the last steps, and the GPUs' utilisation.

        Without GPUs, the CPUs that the process and its loader use, of those that are granted.
        """
        words = [f"stall {self.clock.recent.starved:5.1%}"]
        reading = self._sampler.latest() if self._sampler is not None else None
        if reading is not None and reading.util is not None:
            words.append(f"gpu {reading.util:4.0%}")
        elif reading is not None and reading.cpus is not None:
            words.append(f"cpu {reading.cpus:.1f}/{granted_cpus()}")
        return "  ".join(words)


def _process_space() -> str:
    """What tells apart containers whose processes are numbered each for itself."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _uuid(device: torch.device | None) -> str | None:
    """The UUID of a GPU; None for a CPU."""
    if device is None or device.type != "cuda":
        return None
    from segkit.profiling.sampling.devices import torch_uuid

    return torch_uuid(device)


def batch_size(batch: Any) -> int:
    """How many samples a batch holds: the first dimension of the first array in it; 1 where there is none."""
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        sizes = (batch_size(item) for item in batch if hasattr(item, "shape") or isinstance(item, list | tuple | dict))
        return next(sizes, len(batch) if isinstance(batch, list) else 1)
    shape: Any = getattr(batch, "shape", ())
    return int(shape[0]) if len(shape) else 1
