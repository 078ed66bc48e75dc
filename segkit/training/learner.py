"""A net and everything that changes it: one optimiser step, and the state that a checkpoint keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segkit.data.augment import Augment
from segkit.models.encoder_weights import load_encoder
from segkit.profiling.step_clock import Clock
from segkit.training.checkpoint import NetDescription
from segkit.training.config import TrainConfig
from segkit.training.distributed import World
from segkit.training.losses import DiceCrossEntropy
from segkit.training.optim import AveragedNet, learning_rate, make_optimizer, set_learning_rate
from segkit.training.precision import Precision


class Learner:
    """Knows nothing of epochs, files or other nets."""

    def __init__(self, config: TrainConfig, world: World, description: NetDescription, total_steps: int) -> None:
        self.config, self.world, self.total_steps = config, world, total_steps
        torch.manual_seed(config.system.seed)  # the same first weights on every rank and device
        net = description.build()
        if config.model.encoder:
            load_encoder(net, Path(config.model.encoder))
        layout = torch.channels_last if config.system.channels_last else torch.contiguous_format
        self.net = net.to(world.device, memory_format=layout)  # type: ignore[call-overload]
        self.normalise = description.normalise().to(world.device)
        self.optimizer = make_optimizer(self.net, config.optim, world.device)
        self.average = AveragedNet(self.net, config.optim.ema) if config.optim.ema else None
        self.precision = Precision(config.system.precision, world.device)
        self.loss = DiceCrossEntropy(config.optim.dice)
        self.augment = Augment(config.augment, description.metadata.channels)
        self.wrapped = self._wrap()

    def _wrap(self) -> nn.Module:
        net: nn.Module = self.net
        if self.config.system.compile:
            net = torch.compile(net)  # type: ignore[assignment]
        if self.world.size > 1:
            devices = [self.world.device] if self.world.device.type == "cuda" else None
            # Batch-norm statistics are not needed while training: they are shared once, before a validation.
            net = DistributedDataParallel(
                net, device_ids=devices, gradient_as_bucket_view=True, broadcast_buffers=False
            )
        return net

    @property
    def evaluated(self) -> nn.Module:
        """The net that is validated and exported: the average where there is one."""
        return self.average.net if self.average is not None else self.net

    def step(
        self, step: int, batches: Iterable[tuple[Tensor, Tensor, float]], count: int, clock: Clock
    ) -> list[tuple[Tensor, Tensor]]:
        """One optimiser step (number `step`, from 0) over `count` batches; `clock` learns what the time goes to.

        A batch is images uint8 [B, H, W, C], masks uint8 [B, H, W] and its weight in the gradient; the
        weights of all batches on all ranks sum to the world size, because DDP averages over ranks.

        Returns:
            Loss and soft Dice of each batch, as scalars on the device.
        """
        set_learning_rate(self.optimizer, learning_rate(self.config.optim, step, self.total_steps))
        self.net.train()
        results = []
        for k, (images, masks, weight) in enumerate(batches):
            clock.switch("compute")
            with self._gradients_stay_here(unless=k == count - 1):
                seed = self._seed(step, k)
                torch.manual_seed(seed)  # dropout
                x, y = self.augment(images, masks, seed, coarse=self._is_coarse(step))
                loss, dice = self.loss(self.logits(self.wrapped, x), y)
                self.precision.backward(loss * weight)
                results.append((loss.detach(), dice))
        clock.switch("optim")
        self.precision.step(self.optimizer, self.net, self.config.optim.clip)
        if self.average is not None:
            self.average.update(self.net, step)
        clock.switch(None)
        return results

    def _is_coarse(self, step: int) -> bool:
        return step < self.config.augment.coarse * self.total_steps

    def logits(self, net: nn.Module, x: Tensor) -> Tensor:
        """Logits [B, K, H, W] of images float32 [B, C, H, W] on 0..1, in the run's precision."""
        with self.precision.autocast():
            return net(self.normalise(x))  # type: ignore[no-any-return]

    def _gradients_stay_here(self, *, unless: bool) -> contextlib.AbstractContextManager[Any]:
        """Skip the all-reduce but for the last batch of a step."""
        if unless or not isinstance(self.wrapped, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.wrapped.no_sync()

    def _seed(self, step: int, k: int) -> int:
        """A seed for this (run seed, step, batch of the step, rank); 63 bits."""
        parts = (self.config.system.seed, step, k, self.world.rank)
        return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))

    def is_finite(self) -> bool:
        """Whether every weight is a number. A bad gradient on any rank reaches the weights of all."""
        norms = torch._foreach_norm([p.detach() for p in self.net.parameters()])
        return bool(torch.stack(norms).isfinite().all())

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to take the same next step."""
        return {
            "net": self.net.state_dict(),
            "average": self.average.net.state_dict() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.net.load_state_dict(state["net"])
        if self.average is not None:
            self.average.net.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.load_state_dict(state["scaler"])
