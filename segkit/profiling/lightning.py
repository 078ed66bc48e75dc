"""A callback that profiles any Lightning training: `Trainer(callbacks=[ProfilerCallback("out")])`."""

import sys
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from importlib import import_module
from typing import Any

from segkit.profiling.profiler import Profiler, batch_size

_OLD_NAME = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
Callback: Any = import_module("pytorch_lightning" if _OLD_NAME else "lightning.pytorch").Callback


class ProfilerCallback(Callback):  # type: ignore[misc]
    """Times each batch: loader, copy, forward and backward, optimiser; validation and checkpoints are phases."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Prepare; takes what `Profiler` takes."""
        self._args, self._options, self._fit, self._now = args, options, ExitStack(), ExitStack()

    def on_train_start(self, trainer: Any, module: Any) -> None:
        loader = {"workers": getattr(trainer.train_dataloader, "num_workers", None)}
        options = {"device": trainer.strategy.root_device, **loader, **self._options}
        profiler = self._fit.enter_context(Profiler(*self._args, **options))
        profiler.attach(model=trainer.model)
        self._clock = profiler.clock
        for optimizer in trainer.optimizers:  # its step's beginning tells nothing: forward and backward run inside
            self._fit.callback(optimizer.register_step_post_hook(lambda *_: self._clock.switch("compute")).remove)
        for name in ("start", "stop"):  # of loader, copies and checkpoints Lightning tells its own profiler alone
            setattr(trainer.profiler, name, partial(self._told, trainer, name, getattr(trainer.profiler, name)))
            self._fit.callback(delattr, trainer.profiler, name)

    def _told(self, trainer: Any, name: str, forward: Any, action: str) -> None:
        forward(action)
        if action.endswith("batch_to_device") and trainer.training:
            self._clock.switch("copy" if name == "start" else "compute")
        elif action.endswith("train_dataloader_next"):
            self._begin(self._clock.waiting() if name == "start" else None)
        elif action == "save_checkpoint":
            self._begin(self._clock.phase("checkpoint", trainer.current_epoch) if name == "start" else None)

    def _begin(self, around: AbstractContextManager[None] | None) -> None:
        self._now.close()
        if around is not None:
            self._now.enter_context(around)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._begin(self._clock.waiting())  # for the loader's workers to start

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self._clock.switch("optim")

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self._clock.end_step(trainer.current_epoch, trainer.fit_loop.total_batch_idx + 1, batch_size(batch))

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._begin(self._clock.phase("validate", trainer.current_epoch))

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._begin(self._clock.phase("other", trainer.current_epoch))

    def on_exception(self, trainer: Any, module: Any, error: BaseException | None = None) -> None:
        self._now.close()
        self._fit.__exit__(type(error) if error else None, error, None)

    on_train_end = on_exception
