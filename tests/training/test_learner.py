"""One optimiser step: split over batches or over ranks, it is the step of the whole batch."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from segkit.model_metadata import ModelMetadata
from segkit.profiling.step_clock import NoClock
from segkit.training.checkpoint import NetDescription
from segkit.training.config import TrainConfig
from segkit.training.distributed import Flags, World, join_world, leave_world
from segkit.training.learner import Learner
from segkit.training.precision import Precision

ALONE = World(0, 1, 1, torch.device("cpu"))


def make_learner(world: World, model: str = "fcn-plain", **settings: object) -> Learner:
    """Cross-entropy alone, no batch norm, no dropout: then a batch's gradient is the mean of its parts'."""
    metadata = ModelMetadata(model, 2, ("background", "tumor"), ("a",), (32, 32), "scale", (0, 255))
    defaults = {"model": model, "width": 2, "precision": "fp32", "dice": 0.0, "augment": False, "warmup": 0.0}
    config = TrainConfig().replace(**{**defaults, **settings})
    learner = Learner(config, world, NetDescription(metadata, (0.2,), (0.3,)), total_steps=10)
    for module in learner.net.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    return learner


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (8, 32, 32, 1), dtype=torch.uint8, generator=generator)
    return images, (images[..., 0] > 200).to(torch.uint8)


def weights_after(learner: Learner, parts: list[slice]) -> dict[str, torch.Tensor]:
    images, masks = batch()
    for step in range(3):
        shares = [(images[part], masks[part], len(images[part]) / 8 * learner.world.size) for part in parts]
        learner.step(step, shares, len(parts), NoClock())
    return learner.net.state_dict()


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    fresh = make_learner(ALONE).net.state_dict()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=2e-5)
    assert any(not torch.allclose(one[key], fresh[key], atol=1e-3) for key in one)  # they did learn


def test_accumulated_batches_of_unequal_size_make_the_step_of_the_whole() -> None:
    whole = weights_after(make_learner(ALONE), [slice(0, 8)])
    parts = weights_after(make_learner(ALONE), [slice(0, 3), slice(3, 4), slice(4, 8)])
    assert_close(whole, parts)


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    world = join_world("cpu")
    mine = [slice(0, 2), slice(4, 5)] if rank == 0 else [slice(2, 4), slice(5, 8)]
    torch.save(weights_after(make_learner(world), mine), Path(folder) / f"rank{rank}.pt")
    flags = Flags(world)
    seen = [flags.agree(value) for value in ((0, 3, 0) if rank == 0 else (0, 0, 1))] + [flags.settle()]
    text = world.broadcast_text("from rank one, ä" if rank == 1 else "", source=1)
    total = world.sum(torch.tensor([1.0 + rank])).item()
    torch.save({"flags": torch.tensor(seen), "text": text, "total": total}, Path(folder) / f"talk{rank}.pt")
    leave_world()
    # A thread of gloo that outlives its group aborts the process, should it work while the interpreter shuts down.
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads


def test_two_ranks_make_the_step_of_one_and_agree(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    ranks = [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in ranks[0])
    assert_close(weights_after(make_learner(ALONE), [slice(0, 8)]), ranks[0])
    for talk in (torch.load(tmp_path / f"talk{r}.pt", weights_only=True) for r in (0, 1)):
        assert talk["flags"].tolist() == [0, 0, 3, 1]  # each a step late, the highest of both ranks
        assert talk["text"] == "from rank one, ä"
        assert talk["total"] == 3.0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_as_fp32_does(precision: str) -> None:
    losses = {}
    for name in ("fp32", precision):
        learner = make_learner(ALONE, "unet", precision=name, lr=0.01, dice=1.0)
        images, masks = batch()
        losses[name] = [float(learner.step(0, [(images, masks, 1.0)], 1, NoClock())[0][0]) for _ in range(12)]
    assert losses[precision][-1] < 0.8 * losses[precision][0]
    assert losses[precision][-1] == pytest.approx(losses["fp32"][-1], rel=0.15)


def test_the_fp16_scaler_skips_a_step_that_overflowed() -> None:
    net = torch.nn.Linear(1, 1)
    before = net.weight.clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    precision = Precision("fp16", torch.device("cpu"))
    precision.backward((net(torch.ones(1, 1)) * float("inf")).sum())
    precision.step(optimizer, net, clip=1.0)
    assert torch.equal(net.weight, before)


def test_a_ruined_weight_is_noticed() -> None:
    learner = make_learner(ALONE)
    assert learner.is_finite()
    with torch.no_grad():
        next(learner.net.parameters()).flatten()[0] = float("nan")
    assert not learner.is_finite()


def test_dropout_and_augmentation_depend_on_seed_step_and_rank_alone() -> None:
    first, second = make_learner(ALONE), make_learner(ALONE)
    assert first._seed(3, 0) == second._seed(3, 0)
    seeds = {first._seed(step, k) for step in range(50) for k in range(4)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
