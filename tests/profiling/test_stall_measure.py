"""Planted bottlenecks, an effect of three times each: real loader processes, real files, real sleeps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segkit.profiling.records import StepRecord
from segkit.profiling.stalls.differential import analyse
from segkit.profiling.stalls.measure import (
    GOOD_ENOUGH,
    LEAST_STEPS,
    TURNS,
    WARM_UP,
    Feed,
    Measured,
    choose,
    contenders,
    measure_cold,
    run,
    take_turns,
    tell_apart,
)
from segkit.profiling.stalls.record import read_differential, write_differential
from segkit.profiling.stalls.verdict import decide_differential
from segkit.profiling.step_clock import StepClock
from segkit.profiling.summary import Differential, Interval, Stalls, Verdict, WorkerPoint
from tests.profiling.disk import came_from_disk, write_files
from tests.profiling.made import step

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # its workers sleep: CPUs do not matter
COMPUTE = 0.005  # seconds a step, unless told otherwise
IMAGES = 8
SECONDS = 0.4  # of each measurement


class Batches(torch.utils.data.Dataset):
    """Each item is a batch that takes `decode` seconds, and `fetch` more if its file has to come from the disk."""

    def __init__(self, files: Sequence[Path], decode: float, fetch: float) -> None:
        self.files, self.decode, self.fetch = files, decode, fetch

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.files and came_from_disk(self.files[index % len(self.files)]):
            time.sleep(self.fetch)
        time.sleep(self.decode)
        return torch.zeros(IMAGES, 1)


class Job:
    """A training whose parts sleep; its loader is the real one of PyTorch."""

    def __init__(
        self,
        *,
        compute: float = COMPUTE,
        decode: float = 0.0,
        copy: float = 0.0,
        fetch: float = 0.0,
        files: Sequence[Path] = (),
        packed: float | None = None,
        cpus: int = 4,
        on_cpu: bool = False,
    ) -> None:
        self.cpus, self.on_cpu = cpus, on_cpu
        self.compute, self.copy = compute, copy
        self.data = {"files": Batches(files, decode, fetch)}
        if packed is not None:
            self.data["packed"] = Batches((), packed, 0.0)

    def steps(self, feed: Feed, before_pass: Callable[[], None]) -> Iterator[StepRecord]:
        clock, number = StepClock(None), itertools.count(1)
        options = {"prefetch_factor": feed.prefetch, "persistent_workers": True} if feed.workers else {}
        loader = torch.utils.data.DataLoader(
            self.data[feed.loader or "files"], batch_size=None, num_workers=feed.workers, **options
        )
        while True:
            before_pass()
            clock.restart()
            batches = iter([torch.zeros(IMAGES, 1)] * 60 if feed.synthetic else loader)
            while True:
                with clock.waiting():
                    batch = next(batches, None)
                if batch is None:
                    break
                clock.switch("copy")
                if not feed.synthetic:
                    time.sleep(self.copy)
                clock.switch("compute")
                time.sleep(self.compute)
                clock.end_step(0, next(number), len(batch))
                yield from clock.take_finished()

    def loaders(self) -> Sequence[str]:
        return list(self.data)

    def files(self, loader: str) -> Sequence[Path]:
        return self.data[loader].files

    def load_seconds(self, loader: str) -> float:
        return max(self.data[loader].decode, 1e-6)


def measured(job: Job, *, workers: int = 0, counts: Sequence[int] = (0,), **options: object) -> Differential:
    feed = Feed("files", workers)
    return analyse(job, feed, seconds=SECONDS, counts=counts, **options)[0]  # type: ignore[arg-type]


def verdict_of(differential: Differential) -> Verdict:
    verdict = decide_differential(differential)
    assert verdict is not None
    return verdict


def assert_chosen_is_as_good_as_the_best(differential: Differential) -> int:
    rates = {p.workers: p.images_per_s.value for p in differential.curve if p.images_per_s is not None}
    (chosen,) = [point.workers for point in differential.curve if point.chosen]
    assert rates[chosen] >= 0.95 * max(rates.values())
    return chosen


def test_a_job_without_a_bottleneck_is_bound_by_its_net() -> None:
    differential = measured(Job(compute=0.06), counts=(0, 2))  # the loader's own 0.3 ms are nothing to it
    assert verdict_of(differential).kind == "none"
    assert assert_chosen_is_as_good_as_the_best(differential) in (0, 2)
    assert differential.stalls.compute.value < IMAGES / 0.06
    assert differential.stalls.cold is None
    assert "storage was not measured: the loader reads no files while it trains" in differential.stalls.notes


def test_slow_decoding_is_named_and_workers_hide_it() -> None:
    # 15 ms of decoding for 5 ms of computing: a step takes 20 without workers, 15 with one, 5 with four.
    differential = measured(Job(decode=0.015), counts=(0, 1, 4))
    stalls = differential.stalls
    assert verdict_of(differential).kind == "prep"
    assert stalls.prep_stall.value == pytest.approx(0.75, abs=0.2)
    assert assert_chosen_is_as_good_as_the_best(differential) == 4
    curve = {point.workers: point for point in differential.curve}
    assert curve[4].images_per_s.value > 1.4 * curve[0].images_per_s.value  # type: ignore[union-attr]
    # From a batch's cost alone: four workers keep the net busy, so it and the copies set the pace.
    device_s = differential.settings["compute_s"] + differential.settings["copy_s"]
    assert device_s > 0.015 / 4
    assert curve[4].predicted == pytest.approx(IMAGES / device_s)
    hidden = replace(differential, settings={**differential.settings, "workers": 4})
    assert "Keep it: expect" in verdict_of(hidden).sentence
    assert "Use 4 workers" in verdict_of(differential).sentence


def test_workers_that_are_there_already_hide_it() -> None:
    differential = measured(Job(decode=0.012), workers=4, counts=(4,))
    assert differential.stalls.prep_stall.value < 0.5
    assert verdict_of(differential).kind in ("none", "prep")
    assert differential.settings["workers"] == 4


def test_slow_copies_are_named() -> None:
    differential = measured(Job(copy=0.01), counts=(0, 1))
    assert verdict_of(differential).kind == "copy"
    assert differential.stalls.copy_share is not None
    assert differential.stalls.copy_share.value == pytest.approx(0.667, abs=0.2)
    assert differential.stalls.prep_stall.value < 0.2
    assert_chosen_is_as_good_as_the_best(differential)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_files(tmp_path, 60, 8192)


def test_slow_storage_is_named(files: list[Path]) -> None:
    differential = measured(Job(files=files, fetch=0.015), counts=(0,))
    stalls = differential.stalls
    assert verdict_of(differential).kind == "fetch"
    assert stalls.cold is not None
    assert stalls.fetch_stall is not None
    assert stalls.cold.value < 0.5 * stalls.warm.value
    assert stalls.prep_stall.value < stalls.fetch_stall.value
    assert not any("storage was not measured" in note for note in stalls.notes)


def test_storage_is_left_alone_where_that_is_asked_for(files: list[Path]) -> None:
    differential = measured(Job(files=files, fetch=0.015), cold=False)
    assert differential.stalls.cold is None
    assert "storage was not measured: not asked for" in differential.stalls.notes


def test_files_that_cannot_be_dropped_are_no_cold_measurement(tmp_path: Path) -> None:
    class Gone(Job):
        def files(self, loader: str) -> Sequence[Path]:
            return [tmp_path / "gone"]

    cold, why = measure_cold(Gone(), Feed("files"), 0.1, lambda _: None)
    assert cold is None
    assert why.startswith(f"{tmp_path / 'gone'} could not be dropped")


def test_a_loader_that_needs_no_decoding_is_chosen_where_it_is_faster() -> None:
    differential = measured(Job(decode=0.02, packed=0.0), counts=(0,))
    assert [(p.loader, p.workers, p.chosen) for p in differential.curve] == [
        ("files", 0, False),
        ("packed", 0, True),
    ]
    verdict = verdict_of(differential)
    assert verdict.kind == "prep"
    assert "Use loader packed and 0 workers: expect" in verdict.sentence
    assert verdict.advice[0].startswith("`--loader packed --workers 0")
    assert not any("segkit profile" in text for text in verdict.advice), "it is what has just been run"


def test_the_present_loader_is_kept_where_another_is_no_faster() -> None:
    differential = measured(Job(compute=0.02, decode=0.0, packed=0.06), counts=(0,))
    assert [(p.loader, p.chosen) for p in differential.curve] == [("files", True), ("packed", False)]


def test_on_shared_cpus_the_verdict_knows_it() -> None:
    differential = measured(Job(decode=0.01, on_cpu=True), counts=(0, 2))
    assert differential.settings["on_cpu"] is True
    assert differential.settings["contention"] is not None
    assert any("share the CPUs" in note for note in differential.stalls.notes)
    assert "the net loses" in verdict_of(differential).sentence


def test_the_present_count_is_measured_and_its_steps_are_given() -> None:
    differential, steps = analyse(Job(), Feed("files", 1), seconds=0.2, counts=[0], settings={"batch": 3})
    assert sorted(point.workers for point in differential.curve) == [0, 1]
    assert len(steps) >= LEAST_STEPS
    assert (differential.settings["batch"], differential.settings["loader"]) == (3, "files")


def test_a_differential_reads_back_as_it_was(tmp_path: Path) -> None:
    differential = measured(Job(packed=0.0, files=[]))
    write_differential(tmp_path, differential)
    assert read_differential(tmp_path) == differential
    assert read_differential(tmp_path / "elsewhere") is None


# --- the parts of it ------------------------------------------------------------------------------


class Scripted:
    """Records in a row, numbered from 1; remembers the feeds that were asked for."""

    cpus, on_cpu = 4, False

    def __init__(self, seconds: Callable[[int], float] = lambda _: 0.1) -> None:
        self.seconds, self.asked, self.closed = seconds, [], 0

    def steps(self, feed: Feed, before_pass: Callable[[], None]) -> Iterator[StepRecord]:
        self.asked.append(feed.workers)
        try:
            for number in itertools.count(1):
                time.sleep(0.0005)
                yield step(number, seconds=self.seconds(number))
        finally:
            self.closed += 1

    def loaders(self) -> Sequence[str]:
        return ["files"]

    def files(self, loader: str) -> Sequence[Path]:
        return []

    def load_seconds(self, loader: str) -> float:
        return 0.01


@pytest.mark.parametrize(("workers", "skipped"), [(0, WARM_UP), (3, WARM_UP + 6)])
def test_the_steps_that_fill_the_queues_do_not_count(workers: int, skipped: int) -> None:
    job, one = Scripted(), Measured(Feed("files", workers, prefetch=2))
    run(job, one, 0.01)
    assert one.records[0].step == skipped + 1
    assert len(one.records) >= LEAST_STEPS // TURNS + 1
    assert job.closed == 1


def test_feeds_take_turns_in_opposite_orders() -> None:
    job = Scripted()
    take_turns(job, [Feed("files", count) for count in (0, 1, 2)], 0.02, lambda _: None)
    assert job.asked == [0, 1, 2, 2, 1, 0]  # equal steps: known after two turns


def test_an_uncertain_rate_is_measured_longer_and_a_certain_one_is_not() -> None:
    uneven = {0: lambda k: 0.1, 1: lambda k: 0.5 if k % 7 == 0 else 0.05}

    class Uneven(Scripted):
        def steps(self, feed: Feed, before_pass: Callable[[], None]) -> Iterator[StepRecord]:
            self.seconds = uneven[feed.workers]
            return super().steps(feed, before_pass)

    job = Uneven()
    even, _ = take_turns(job, [Feed("files", 0), Feed("files", 1)], 0.1, lambda _: None)
    assert even.done
    assert job.asked.count(0) == 2
    assert job.asked.count(1) > 2


def of_rate(workers: int, rate: float, spread: float = 0.04) -> Measured:
    """Steps that are `spread` longer and shorter in turns."""
    records = [step(k, seconds=8 / rate * (1 + spread * (-1) ** k)) for k in range(21)]
    return Measured(Feed("files", workers), records)


def test_only_feeds_that_may_be_as_good_as_the_best_are_measured_longer() -> None:
    near = [of_rate(0, 100.0), of_rate(1, 98.0), of_rate(2, 96.5), of_rate(3, 80.0)]
    assert [m.feed.workers for m in contenders(near)] == [0, 1, 2]  # 96.5 + its interval reaches 97
    assert contenders([of_rate(0, 100.0), of_rate(1, 80.0)]) == []
    assert contenders([]) == []
    job = Scripted()
    tell_apart(job, near, 0.01, lambda _: None)
    assert 3 not in job.asked
    assert job.asked[:3] == [0, 1, 2]
    lengths = len(near[3].records), min(len(m.records) for m in near[:3])
    assert lengths[0] == 21 < lengths[1]


def test_rates_that_are_known_are_not_measured_longer() -> None:
    job = Scripted()
    tell_apart(job, [of_rate(0, 100.0, 0.001), of_rate(1, 99.0, 0.001)], 0.01, lambda _: None)
    assert job.asked == []


def point(workers: int, rate: float | None) -> WorkerPoint:
    return WorkerPoint(workers, None if rate is None else Interval(rate), 1e9, "files")


def test_the_fewest_workers_that_are_as_good_as_the_best_are_chosen() -> None:
    best = 100.0
    curve = [point(0, 50.0), point(1, GOOD_ENOUGH * best + 0.1), point(2, 99.0), point(3, best), point(9, None)]
    assert [p.workers for p in choose(curve) if p.chosen] == [1]
    curve[1] = point(1, GOOD_ENOUGH * best - 0.1)
    assert [p.workers for p in choose(curve) if p.chosen] == [2]
    assert not any(p.chosen for p in choose([point(0, None)]))  # what was only predicted is not chosen
    assert choose([]) == []


def test_rates_that_vary_too_much_are_not_judged() -> None:
    vague, known = Interval(50.0, 20.0, 80.0), Interval(100.0, 99.0, 101.0)
    stalls = Stalls(known, vague, None, Interval(0.5, 0.1, 0.9), None, None)
    settings = {"loader": "files", "workers": 0, "prefetch": 2}
    verdict = verdict_of(Differential(stalls, [], None, settings))
    assert (verdict.kind, verdict.title) == ("unknown", "The rates vary too much to tell")
    assert verdict.advice == ["Repeat it on a quiet machine, or with a longer `--seconds`."]
    clear = replace(stalls, warm=Interval(50.0, 49.0, 51.0))
    assert verdict_of(Differential(clear, [], None, settings)).kind == "prep"
