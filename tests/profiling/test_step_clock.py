"""The clock against schedules that are known: a simulated device with a queue, and real sleeps on the host."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from segkit.profiling.records import PhaseRecord, StepRecord, read_lines
from segkit.profiling.step_clock import NoClock, StepClock
from tests.profiling.simulation import MS, Simulation, simulation, train_step

__all__ = ["simulation"]


def in_ms(record: StepRecord) -> dict[str, float | None]:
    """The parts in whole microseconds."""
    parts = ("wait", "gap", "copy", "compute", "sync", "optim", "step")
    values = {part: getattr(record, f"{part}_s") for part in parts}
    return {part: None if value is None else round(value / MS, 3) for part, value in values.items()}


def test_a_slow_loader_starves_the_device_for_what_the_queue_does_not_hide(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    for number in range(1, 6):
        train_step(simulation, clock, number, load=40)
    simulation.synchronise()
    clock.flush()
    first, *others = clock.take_finished()
    parts = {"copy": 2, "compute": 10, "sync": None, "optim": 3, "step": 40}
    assert in_ms(first) == {"wait": 40, "gap": 40, **parts}  # nothing was queued before
    for record in others:
        assert in_ms(record) == {"wait": 40, "gap": 25, **parts}  # the 15 ms of the step before hide as many
        assert record.starved_s == pytest.approx(25 * MS)
        assert record.period_s == pytest.approx(40 * MS)
        assert record.wait_cpu_s == pytest.approx(10 * MS)
    assert [record.step for record in (first, *others)] == [1, 2, 3, 4, 5]
    assert [record.t - first.t for record in others] == pytest.approx([0.04, 0.08, 0.12, 0.16])


def test_a_wait_behind_queued_work_starves_nobody(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    for number in range(1, 9):
        train_step(simulation, clock, number, load=4)
    clock.flush()
    for record in clock.take_finished()[1:]:
        assert in_ms(record)["gap"] == 0
        assert (record.wait_s, record.starved_s) == (pytest.approx(4 * MS), 0.0)
        assert record.period_s == pytest.approx(15 * MS)  # of the device, though the host is ahead
        assert record.step_s == pytest.approx(4 * MS)
    assert clock.recent.starved == pytest.approx(4 / 32)  # the first step's 4 ms, of eight host steps


def test_time_of_the_host_that_is_no_wait_is_a_gap_but_no_starvation(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    for number in range(1, 4):
        simulation.host(30)  # logging
        train_step(simulation, clock, number, load=5)
    clock.flush()
    last = clock.take_finished()[-1]
    assert in_ms(last)["gap"] == 20
    assert last.starved_s == pytest.approx(5 * MS)


def test_the_live_share_is_that_of_the_last_steps(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    for number in range(1, 401):
        train_step(simulation, clock, number, load=0 if number > 200 else 60)
        simulation.synchronise()
        if number == 200:
            clock.flush()
            assert clock.recent.starved > 0.5
    clock.flush()
    assert clock.recent.starved == 0.0


def test_a_step_of_two_batches_has_the_sum_of_their_parts(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    for number in (1, 2):
        for _ in range(2):
            with clock.waiting():
                simulation.host(20)
            clock.switch("copy")
            simulation.enqueue(2)
            clock.switch("compute")
            simulation.enqueue(10)
        clock.switch("optim")
        simulation.enqueue(3)
        clock.end_step(0, number, images=8)
    clock.flush()
    second = clock.take_finished()[1]
    # 15 ms of the step before reach into the first wait, 12 ms of the first batch into the second.
    gap = (20 - 15) + (20 - 12)
    assert in_ms(second) == {
        "wait": 40, "gap": gap, "copy": 4, "compute": 20, "sync": None, "optim": 3, "step": 40,
    }  # fmt: skip
    assert second.images == 8


def test_what_follows_the_last_gradient_is_exchange(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    for number in (1, 2):
        with clock.waiting():
            simulation.host(1)
        clock.switch("compute")
        simulation.enqueue(10)
        clock.gradient_ready()
        simulation.enqueue(6)
        clock.switch("optim")
        simulation.enqueue(3)
        clock.end_step(0, number, images=4)
    clock.flush()
    second = clock.take_finished()[1]
    assert in_ms(second) == {
        "wait": 1, "gap": 0, "copy": None, "compute": 10, "sync": 6, "optim": 3, "step": 1,
    }  # fmt: skip


def test_an_exchange_before_the_forward_pass_counts_with_that_of_the_gradients(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    for part, ms in (("compute", 1), ("sync", 4), ("compute", 10)):
        clock.switch(part)
        simulation.enqueue(ms)
    clock.gradient_ready()
    simulation.enqueue(6)
    clock.end_step(0, 1, images=4)
    clock.flush()
    (record,) = clock.take_finished()
    assert (in_ms(record)["compute"], in_ms(record)["sync"], in_ms(record)["gap"]) == (11, 10, 0)
    assert record.period_s == pytest.approx(21 * MS)


def test_a_gradient_outside_a_step_is_nobodys(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    clock.gradient_ready()
    train_step(simulation, clock, 1)
    clock.gradient_ready()
    train_step(simulation, clock, 2)
    clock.flush()
    assert [record.sync_s for record in clock.take_finished()] == [None, None]


def test_a_step_without_work_on_the_device_has_only_the_hosts_times(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    train_step(simulation, clock, 1)
    with clock.waiting():
        simulation.host(7)
    clock.end_step(0, 2, images=0)
    train_step(simulation, clock, 3, load=40)
    clock.flush()
    _, empty, after = clock.take_finished()
    assert in_ms(empty) == dict.fromkeys(("gap", "copy", "compute", "sync", "optim")) | {"wait": 7, "step": 7}
    assert empty.starved_s == pytest.approx(7 * MS)
    assert in_ms(after)["compute"] == 10


def test_steps_and_phases_cover_the_time_once(simulation: Simulation, tmp_path: Path) -> None:
    clock = StepClock(tmp_path, timeline=simulation)
    began = simulation.now
    number = 0
    for epoch in range(3):
        for _ in range(5):
            number += 1
            train_step(simulation, clock, number, load=20, epoch=epoch)
            simulation.host(3)
        with clock.waiting():
            simulation.host(9)  # the loader finds that the epoch is over
        with clock.phase("validate", epoch):
            simulation.enqueue(100)
            simulation.synchronise()
        simulation.host(2)
        with clock.phase("checkpoint", epoch):
            simulation.host(50)
    clock.flush()
    steps = read_lines(tmp_path / "steps-rank0.jsonl", StepRecord)
    phases = read_lines(tmp_path / "phases-rank0.jsonl", PhaseRecord)
    assert sum(s.step_s for s in steps) + sum(p.seconds for p in phases) == pytest.approx(simulation.now - began)
    spans = sorted([(s.t, s.step_s) for s in steps] + [(p.t, p.seconds) for p in phases])
    for (t, seconds), (following, _) in itertools.pairwise(spans):
        assert t + seconds == pytest.approx(following, abs=1e-5)  # Unix time in a double: a quarter of a microsecond
    assert [(p.phase, p.epoch, round(p.seconds / MS)) for p in phases[:2]] == [
        ("validate", 0, 15 + 100),  # from the end of the last step; the device's 15 ms of it came first
        ("checkpoint", 0, 52),
    ]
    assert [s.epoch for s in steps] == [0] * 5 + [1] * 5 + [2] * 5
    # The first step after a phase finds an idle device, whatever happened before.
    assert in_ms(steps[5])["gap"] == in_ms(steps[0])["gap"] == 20


def test_a_phase_that_fails_is_still_written(simulation: Simulation, tmp_path: Path) -> None:
    clock = StepClock(tmp_path, timeline=simulation)

    def validate() -> None:
        with clock.phase("validate", 4):
            simulation.host(5)
            raise ValueError

    with pytest.raises(ValueError):
        validate()
    clock.flush()
    (phase,) = read_lines(tmp_path / "phases-rank0.jsonl", PhaseRecord)
    assert (phase.phase, phase.epoch, phase.seconds) == ("validate", 4, pytest.approx(5 * MS))


def test_time_before_a_restart_is_nobodys(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    train_step(simulation, clock, 1)
    with clock.waiting():
        simulation.host(500)
    clock.switch("compute")
    simulation.enqueue(300)
    clock.restart()
    simulation.synchronise()
    clock.restart()
    train_step(simulation, clock, 2, load=6)
    clock.flush()
    assert in_ms(clock.take_finished()[1]) == {
        "wait": 6, "gap": 6, "copy": 2, "compute": 10, "sync": None, "optim": 3, "step": 6,
    }  # fmt: skip


def test_records_come_when_the_device_has_passed_the_step_and_in_order(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    for number in (1, 2, 3):
        train_step(simulation, clock, number)
    assert clock.take_finished() == []  # the host is 45 ms ahead
    simulation.host(31)  # past the second step, not the third
    train_step(simulation, clock, 4)
    assert [record.step for record in clock.take_finished()] == [1, 2]
    began = simulation.now
    clock.flush()  # waits for the device
    assert simulation.now == pytest.approx(began + 29 * MS)
    assert [record.step for record in clock.take_finished()] == [3, 4]


def test_the_loop_is_never_held_up(simulation: Simulation) -> None:
    clock = StepClock(None, timeline=simulation)
    began = simulation.now
    for number in range(1, 101):
        train_step(simulation, clock, number)
    assert simulation.now == began


@pytest.mark.parametrize("synced", [False, True])
def test_marks_are_reused(simulation: Simulation, synced: bool) -> None:
    clock = StepClock(None, timeline=simulation)
    for number in range(1, 1001):
        with clock.waiting():
            simulation.host(16)
        clock.switch("copy")
        clock.switch("compute")
        simulation.enqueue(12)
        if synced:
            clock.gradient_ready()
        clock.switch("optim")
        simulation.enqueue(3)
        clock.end_step(0, number, images=1)
    assert len(simulation.events) < 20
    clock.flush()
    assert sum(not event.released for event in simulation.events) == 1  # the end of the last step


def test_on_the_host_parts_are_what_the_loop_did(tmp_path: Path) -> None:
    clock = StepClock(tmp_path, rank=3)
    slept = {"wait": 0.02, "copy": 0.004, "compute": 0.012, "optim": 0.006}
    began = time.perf_counter()
    clock.restart()
    for number in range(1, 9):
        with clock.waiting():
            time.sleep(slept["wait"])
        for part in ("copy", "compute", "optim"):
            clock.switch(part)
            time.sleep(slept[part])
        clock.end_step(0, number, images=2)
    elapsed = time.perf_counter() - began
    clock.flush()
    records = read_lines(tmp_path / "steps-rank3.jsonl", StepRecord)
    assert len(records) == 8
    for record in records:
        for part, seconds in slept.items():
            assert getattr(record, f"{part}_s") >= seconds
        assert record.gap_s >= record.wait_s  # nothing is queued: the host's wait is the device's gap
        assert record.starved_s == record.wait_s
        assert record.wait_cpu_s < record.wait_s / 2  # it slept
        assert record.period_s == pytest.approx(record.step_s, rel=0.1)
    assert sum(record.step_s for record in records) <= elapsed
    assert sum(record.step_s for record in records) == pytest.approx(elapsed, rel=0.1)


def test_work_of_the_waiting_thread_is_told_from_sleep(tmp_path: Path) -> None:
    clock = StepClock(None)
    with clock.waiting():
        until = time.thread_time() + 0.03
        while time.thread_time() < until:
            pass
    clock.end_step(0, 1, 1)
    (record,) = clock.take_finished()
    assert 0.03 <= record.wait_cpu_s <= record.wait_s


def test_nobodys_clock_takes_the_same_calls() -> None:
    clock = NoClock()
    with clock.waiting():
        clock.switch("compute")
    clock.switch(None)


# --- gradients -----------------------------------------------------------------------------------


class Branches(nn.Module):
    """A net whose last gradient is not that of its first parameter: `late` is used first, but declared last."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.head = nn.Linear(8, 1)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        self.late = nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.late(x * self.frozen)))


def hooks_of(net: nn.Module) -> int:
    return sum(len(getattr(p, "_post_accumulate_grad_hooks", None) or ()) for p in net.parameters())


def test_the_last_gradient_of_a_backward_pass_is_found(simulation: Simulation) -> None:
    net, order = Branches(), []
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: order.append(name))
    own = hooks_of(net)
    clock = StepClock(None, timeline=simulation)
    clock.gradient_ready = lambda: order.append("ready")  # type: ignore[method-assign]
    clock.watch_gradients(net.parameters())
    assert hooks_of(net) == 2 * own
    passes = []
    for _ in range(4):
        order.clear()
        net(torch.ones(2, 4)).sum().backward()
        passes.append(list(order))
    assert "ready" not in passes[0]  # the order is not known yet
    assert hooks_of(net) == own + 1
    for seen in passes[1:]:
        assert seen[-1] == "ready"
        assert seen[-2] == passes[0][-1]
        assert seen[-2].startswith("late")
        assert seen.count("ready") == 1


def test_a_net_of_one_parameter_needs_no_learning(simulation: Simulation) -> None:
    parameter = nn.Parameter(torch.ones(1))
    clock = StepClock(None, timeline=simulation)
    clock.watch_gradients([parameter])
    for number in (1, 2):
        clock.switch("compute")
        parameter.sum().backward()
        simulation.enqueue(5)
        clock.end_step(0, number, 1)
    clock.flush()
    assert [round(record.sync_s / MS, 3) for record in clock.take_finished() if record.sync_s] == [5, 5]
