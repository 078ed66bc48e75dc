"""The batcher, with a model whose runs the test holds back and counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from segkit.inference.session import Model
from segkit.model_metadata import MASK, PROBABILITY
from segkit.serving.batcher import Batcher, BatchReport
from segkit.serving.config import BatchConfig
from segkit.serving.models import Served
from segkit.serving.ticket import Ticket
from tests.threshold_model import threshold_metadata

SIZE = 8


class Held:
    """Adds one to each pixel, when the test lets it."""

    device = "cpu"
    path = Path("model.onnx")

    def __init__(self) -> None:
        self.metadata = threshold_metadata(channels=1, size=(SIZE, SIZE))
        self.batches: list[list[int]] = []  # the value of each slice, of each batch
        self.beside: object = None  # a session for batches beside others
        self.shared: list[bool] = []  # whether each batch was to use it
        self.go = threading.Event()
        self.began = threading.Event()
        self.fail_on: int | None = None

    def run(self, outputs: Sequence[str], images: NDArray[np.uint8], *, beside: bool) -> list[Any]:
        self.shared.append(beside)
        self.began.set()
        assert self.go.wait(10)
        values = images[:, 0, 0, 0].tolist()
        self.batches.append(values)
        if self.fail_on in values:
            raise ValueError("cannot")
        return [images[..., 0] + 1 for _ in outputs]


@pytest.fixture
def model() -> Held:
    return Held()


@pytest.fixture
def reports() -> list[BatchReport]:
    return []


@pytest.fixture
def batcher(model: Held, reports: list[BatchReport]) -> Iterator[Batcher]:
    batcher = Batcher(BatchConfig(batch=4, delay_ms=0.0, parallel=1), reports.append)
    yield batcher
    model.go.set()
    batcher.close()


def slices(*values: int, size: int = SIZE) -> NDArray[np.uint8]:
    return np.array(values, np.uint8)[:, None, None, None] * np.ones((1, size, size, 1), np.uint8)


def served(model: Held) -> Served:
    return Served("held", "1", cast(Model, model), (0, 0, 0))


def hold(batcher: Batcher, model: Held, one: Served) -> Future[Any]:
    """Put a first slice into the net, so that what follows gathers behind it."""
    first = batcher.submit(one, slices(0), (MASK,), Ticket())
    assert model.began.wait(5)
    return first


def test_waiting_slices_of_several_requests_share_a_batch(
    batcher: Batcher, model: Held, reports: list[BatchReport]
) -> None:
    one = served(model)
    first = hold(batcher, model, one)
    futures = [batcher.submit(one, slices(value), (MASK,), Ticket()) for value in (10, 20, 30)]
    model.go.set()
    for future, value in zip(futures, (10, 20, 30), strict=True):
        np.testing.assert_array_equal(future.result(5)[MASK], slices(value)[..., 0] + 1)
    first.result(5)
    assert model.batches == [[0], [10, 20, 30]]
    batcher.close()
    assert [report.slices for report in reports] == [1, 3]
    assert len(reports[1].queue_s) == 3


def test_a_batch_is_never_larger_than_allowed(batcher: Batcher, model: Held) -> None:
    model.go.set()
    future = batcher.submit(served(model), slices(*range(11)), (MASK,), Ticket())
    np.testing.assert_array_equal(future.result(5)[MASK], slices(*range(11))[..., 0] + 1)
    assert [len(batch) for batch in model.batches] == [4, 4, 3]


def test_a_slice_does_not_wait_for_the_two_hundred_before_it(batcher: Batcher, model: Held) -> None:
    one = served(model)
    hold(batcher, model, one)
    many = batcher.submit(one, slices(*[1] * 200), (MASK,), Ticket())
    single = batcher.submit(one, slices(99), (MASK,), Ticket())
    other = batcher.submit(one, slices(98), (MASK,), Ticket())
    model.go.set()
    single.result(5)
    other.result(5)
    many.result(10)
    assert model.batches[1] == [1, 1, 99, 98]  # the volume gets what the others leave
    assert all(batch == [1, 1, 1, 1] for batch in model.batches[2:51])


def test_more_requests_than_a_batch_holds_take_turns(batcher: Batcher, model: Held) -> None:
    one = served(model)
    hold(batcher, model, one)
    futures = [batcher.submit(one, slices(value, value), (MASK,), Ticket()) for value in range(1, 7)]
    model.go.set()
    for future in futures:
        future.result(5)
    assert set(model.batches[1]) == {1, 2, 3, 4}
    assert {5, 6} <= set(model.batches[2])  # those that got nothing come first


def test_sizes_outputs_and_models_are_kept_apart(batcher: Batcher, model: Held) -> None:
    one, other = served(model), served(model)
    hold(batcher, model, one)
    futures = [
        batcher.submit(one, slices(1), (MASK,), Ticket()),
        batcher.submit(one, slices(2, size=16), (MASK,), Ticket()),
        batcher.submit(one, slices(3), (MASK, PROBABILITY), Ticket()),
        batcher.submit(other, slices(4), (MASK,), Ticket()),
        batcher.submit(one, slices(5), (MASK,), Ticket()),
    ]
    model.go.set()
    for future in futures:
        future.result(5)
    assert model.batches[1:] == [[1, 5], [2], [3], [4]]
    assert set(futures[2].result()) == {MASK, PROBABILITY}


def test_a_failing_slice_fails_its_own_request_only(batcher: Batcher, model: Held) -> None:
    one = served(model)
    hold(batcher, model, one)
    good = batcher.submit(one, slices(1), (MASK,), Ticket())
    bad = batcher.submit(one, slices(66, 67, 68, 69, 70), (MASK,), Ticket())
    model.fail_on = 66
    model.go.set()
    np.testing.assert_array_equal(good.result(5)[MASK], slices(1)[..., 0] + 1)
    with pytest.raises(ValueError, match="cannot"):
        bad.result(5)
    after = batcher.submit(one, slices(5), (MASK,), Ticket())
    assert after.result(5)[MASK][0, 0, 0] == 6


def test_slices_that_nobody_waits_for_are_dropped(batcher: Batcher, model: Held) -> None:
    one = served(model)
    hold(batcher, model, one)
    ticket = Ticket()
    gone = batcher.submit(one, slices(1, 1, 1, 1, 1, 1), (MASK,), ticket)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            ticket.wait(gone)
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while ticket._future is None:
        pass
    stays = batcher.submit(one, slices(2), (MASK,), Ticket())
    ticket.cancel()
    waiting.join(5)
    assert isinstance(errors[0], CancelledError)
    assert batcher.waiting == 1
    model.go.set()
    stays.result(5)
    assert model.batches == [[0], [2]]
    with pytest.raises(CancelledError):
        ticket.check()


def test_a_batch_waits_for_a_request_that_is_announced(model: Held) -> None:
    batcher = Batcher(BatchConfig(batch=2, delay_ms=1000.0, parallel=1))
    model.go.set()
    one = served(model)
    batcher.announce(1)
    first = batcher.submit(one, slices(1), (MASK,), Ticket())
    second = batcher.submit(one, slices(2), (MASK,), Ticket())  # full now: no more waiting
    first.result(5)
    second.result(5)
    assert model.batches == [[1, 2]]
    batcher.announce(-1)
    batcher.submit(one, slices(3), (MASK,), Ticket()).result(5)  # nobody is coming: no waiting either
    assert model.batches[1:] == [[3]]
    batcher.close()


def test_the_ticket_counts_slices_and_times(batcher: Batcher, model: Held) -> None:
    model.go.set()
    ticket = Ticket()
    batcher.submit(served(model), slices(*range(6)), (MASK,), ticket).result(5)
    assert ticket.done == 6
    assert ticket.compute_s > 0


def test_close_finishes_what_is_queued(model: Held) -> None:
    batcher = Batcher(BatchConfig(batch=4))
    model.go.set()
    futures = [batcher.submit(served(model), slices(value), (MASK,), Ticket()) for value in range(9)]
    batcher.close()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError):
        batcher.submit(served(model), slices(1), (MASK,), Ticket())


def test_batches_run_at_once_and_each_part_finds_its_place(model: Held) -> None:
    batcher = Batcher(BatchConfig(batch=3, parallel=3))
    model.go.set()
    one = served(model)
    stacks = [slices(*range(start, start + 20)) for start in range(0, 200, 20)]
    futures = [batcher.submit(one, stack, (MASK,), Ticket()) for stack in stacks]
    for stack, future in zip(stacks, futures, strict=True):
        np.testing.assert_array_equal(future.result(5)[MASK], stack[..., 0] + 1)
    batcher.close()


def test_a_second_batch_does_not_wait_for_the_first(model: Held) -> None:
    batcher = Batcher(BatchConfig(batch=1, parallel=2))
    one = served(model)
    together = threading.Barrier(2, timeout=5)
    run = model.run

    def meet(outputs: Sequence[str], images: NDArray[np.uint8], *, beside: bool) -> list[Any]:
        together.wait()
        return run(outputs, images, beside=beside)

    model.run = meet  # type: ignore[method-assign]
    model.go.set()
    for future in [batcher.submit(one, slices(value), (MASK,), Ticket()) for value in (1, 2)]:
        future.result(5)
    batcher.close()


def test_a_batch_has_all_cpus_alone_and_a_crowd_shares_them(model: Held) -> None:
    model.beside = object()
    batcher = Batcher(BatchConfig(batch=1, delay_ms=0.0, parallel=2))
    one = served(model)
    first = batcher.submit(one, slices(1), (MASK,), Ticket())
    assert model.began.wait(5)
    model.began.clear()
    others = [batcher.submit(one, slices(value), (MASK,), Ticket()) for value in range(2, 8)]
    assert not model.began.wait(0.2), "nothing runs beside a batch with all cores"
    model.go.set()
    for future in (first, *others):
        future.result(5)
    batcher.submit(one, slices(9), (MASK,), Ticket()).result(5)
    batcher.close()
    assert model.shared[:3] == [False, True, True]
    assert model.shared[-1] is False


def test_all_threads_end_though_they_waited_for_a_batch_with_all_cpus(model: Held) -> None:
    model.beside = object()
    batcher = Batcher(BatchConfig(batch=1, delay_ms=0.0, parallel=4))
    one = served(model)
    futures = [batcher.submit(one, slices(1), (MASK,), Ticket())]
    assert model.began.wait(5)
    futures.append(batcher.submit(one, slices(2), (MASK,), Ticket()))
    closing = threading.Thread(target=batcher.close, daemon=True)
    closing.start()
    closing.join(0.2)  # the idle threads have heard of it, and wait for the one in the net
    model.go.set()
    for future in futures:
        future.result(5)
    closing.join(5)
    assert not closing.is_alive()


def test_a_model_that_answers_another_shape_fails_its_request_and_not_the_server(batcher: Batcher, model: Held) -> None:
    model.go.set()
    run = model.run
    model.run = lambda outputs, images, beside: [run(outputs, images, beside=beside)[0], 1]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="zip"):
        batcher.submit(served(model), slices(1), (MASK,), Ticket()).result(5)
    model.run = lambda outputs, images, beside: [np.zeros(())]  # type: ignore[method-assign]
    with pytest.raises((IndexError, TypeError)):
        batcher.submit(served(model), slices(1), (MASK,), Ticket()).result(5)
    model.run = run  # type: ignore[method-assign]
    assert batcher.submit(served(model), slices(1), (MASK,), Ticket()).result(5)[MASK][0, 0, 0] == 2
