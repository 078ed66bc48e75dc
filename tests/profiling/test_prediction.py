"""Predicted step times, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segkit.profiling.stalls.prediction import Costs, candidates

GPU = Costs(compute=0.02, load=0.1, copy=0.005, cpus=8, shared=False)
CPU = Costs(compute=0.02, load=0.1, copy=0.0, cpus=4, shared=True)


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        (0, 0.1),  # the host loads the next batch while the device computes
        (1, 0.1),
        (2, 0.05),
        (4, 0.025),  # as long as the device takes
        (5, 0.025),
        (8, 0.025),
    ],
)
def test_on_a_device_of_its_own_the_slower_side_sets_the_pace(workers: int, seconds: float) -> None:
    assert GPU.step_seconds(workers) == pytest.approx(seconds)


def test_more_workers_than_cpus_do_not_help() -> None:
    few = replace(GPU, cpus=2)
    assert few.step_seconds(8) == few.step_seconds(2) == pytest.approx(0.05)


def test_without_workers_loader_and_net_follow_each_other_on_a_cpu() -> None:
    assert CPU.step_seconds(0) == pytest.approx(0.12)


def test_on_shared_cpus_work_is_conserved() -> None:
    free = replace(CPU, contention=0.0)
    assert free.step_seconds(1) == pytest.approx(0.1)  # the worker's pace
    # All four CPUs compute for 20 ms; the loader's 100 ms among the four are 25.
    assert free.step_seconds(4) == pytest.approx(0.045)
    for workers in range(1, 9):
        assert free.step_seconds(workers) >= 0.045


def test_contention_is_what_loading_adds_to_the_nets_step() -> None:
    assert replace(CPU, contention=1.0).step_seconds(4) == pytest.approx(0.12)
    assert replace(CPU, contention=2.0).step_seconds(4) == pytest.approx(0.22)


@pytest.mark.parametrize("counts", [(0, 1, 2), (0, 2, 3, 4), (2,), (1, 4)])
def test_contention_is_fitted_to_real_runs(counts: tuple[int, ...]) -> None:
    """Also where one worker's own pace, and no contention, set the pace of some of the runs."""
    true = replace(CPU, contention=0.6)
    fitted = CPU.fitted([(workers, true.step_seconds(workers)) for workers in counts])
    assert fitted.contention == pytest.approx(0.6, abs=0.01)
    for workers in range(5):
        assert fitted.step_seconds(workers) == pytest.approx(true.step_seconds(workers), rel=0.02)


def test_one_disturbed_run_does_not_decide() -> None:
    true = replace(CPU, contention=0.6)
    measured = [(workers, true.step_seconds(workers)) for workers in (2, 3, 4)] + [(4, 0.1)]
    assert CPU.fitted(measured).contention == pytest.approx(0.6, abs=0.1)


def test_a_fit_stays_within_what_can_be() -> None:
    assert CPU.fitted([(1, 9.0)]).contention == 2.0
    assert CPU.fitted([(4, 0.001)]).contention == pytest.approx(0.25)  # the CPUs' work is done by somebody
    assert CPU.fitted([(0, 0.12)]) == CPU  # nothing ran beside the net
    assert GPU.fitted([(1, 9.0)]) == GPU
    assert replace(CPU, load=0.0).fitted([(1, 9.0)]) == replace(CPU, load=0.0)


@pytest.mark.parametrize(
    ("cpus", "current", "counts"),
    [
        (1, 0, [0, 1]),
        (4, 0, [0, 1, 2, 3, 4]),
        (2, 6, [0, 1, 2, 6]),
        (8, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (16, 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 16]),
        (64, 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 23, 32, 45, 64]),
    ],
)
def test_the_counts_to_try(cpus: int, current: int, counts: list[int]) -> None:
    assert candidates(cpus, current) == counts
