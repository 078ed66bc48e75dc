"""A model as the segmenter wants it, whose slices go through the batcher with those of other requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.model_metadata import MASK, PROBABILITY, ModelMetadata
from segkit.serving.batcher import Batcher
from segkit.serving.models import Served
from segkit.serving.ticket import Ticket


class BatchedModel:
    """Stands in for `Model` in the thread of one request."""

    def __init__(self, served: Served, batcher: Batcher, ticket: Ticket) -> None:
        self._served = served
        self._batcher = batcher
        self._ticket = ticket
        self._announced = True
        batcher.announce(1)

    @property
    def metadata(self) -> ModelMetadata:
        return self._served.model.metadata

    @property
    def path(self) -> Path:
        return self._served.model.path

    @property
    def device(self) -> str:
        return self._served.model.device

    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As `Model.masks`. Raises CancelledError when nobody waits for them any more."""
        masks: NDArray[np.uint8] = self._run(MASK, images)
        return masks

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Model.probabilities`. Raises CancelledError when nobody waits for them any more."""
        probabilities: NDArray[np.float32] = self._run(PROBABILITY, images)
        return probabilities

    def close(self) -> None:
        """Tell the batcher that no first slices will come."""
        if self._announced:
            self._announced = False
            self._batcher.announce(-1)

    def _run(self, output: str, images: NDArray[np.uint8]) -> NDArray[Any]:
        self._ticket.check()
        self.close()  # first: a batch must not wait for slices that it has
        future = self._batcher.submit(self._served, images, (output,), self._ticket)
        results: dict[str, NDArray[Any]] = self._ticket.wait(future)
        return results[output]
