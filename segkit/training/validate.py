"""Validation at the end of an epoch, each slice on exactly one rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from segkit.data.augment import to_unit
from segkit.data.sampling import shard
from segkit.data.stores import BatchLoader
from segkit.metrics.bootstrap import defined
from segkit.metrics.conventions import foreground_dice, mean_defined
from segkit.training.dataset import TrainingData
from segkit.training.learner import Learner


@dataclass(frozen=True)
class Validation:
    """Figures in the training frame (the test figures are computed at each scan's own size)."""

    loss: float
    dice: float  # pooled over all slices, mean over foreground classes; 0 where there is none
    patient_dice: float | None  # mean over patients with foreground in mask or prediction


@torch.no_grad()
def validate(learner: Learner, data: TrainingData, loader: BatchLoader) -> Validation:
    """Figures of the evaluated net over the validation rows, summed over ranks."""
    world, net = learner.world, learner.evaluated
    classes, patients = len(data.case_set.classes), len(data.case_set.cases)
    counts = torch.zeros(patients * classes**2, dtype=torch.int64, device=world.device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=world.device)
    every = data.rows("val")
    rows = shard(every, world.rank, world.size)
    size = learner.config.data.batch
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    world.share_buffers(net)  # all ranks validate the net that rank 0 will save
    net.eval()
    for chosen, records in zip(batches, loader.iterate(batches), strict=True):
        images, masks = data.store.shape.split(records.to(world.device, non_blocking=True))
        x, y = to_unit(images, masks)
        logits = learner.logits(net, x)
        loss_sum += learner.loss(logits, y)[0].double() * len(chosen)
        patient = torch.from_numpy(data.patient[chosen]).to(world.device)[:, None, None]
        cell = (patient * classes + y) * classes + logits.argmax(dim=1)
        counts += torch.bincount(cell.flatten(), minlength=len(counts))
    table = world.sum(counts).view(patients, classes, classes)
    return Validation(
        loss=float(world.sum(loss_sum)) / max(1, len(every)),
        dice=float(np.nan_to_num(foreground_dice(table.sum(dim=0, keepdim=True).numpy())[0])),
        patient_dice=defined(float(mean_defined(foreground_dice(table.numpy())))),
    )
