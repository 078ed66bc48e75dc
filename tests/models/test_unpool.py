"""The slot-mask unpooling against torch's own, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segkit.models.blocks import max_unpool_2x2

SOURCES = {
    "random": lambda: torch.randn(2, 5, 12, 18),
    "ties": lambda: torch.randint(0, 3, (2, 5, 12, 18)).float(),
    "all equal": lambda: torch.zeros(2, 5, 12, 18),
    "signed zeros": lambda: torch.randint(0, 2, (2, 5, 12, 18)).float() * -0.0,
    "infinite": lambda: torch.randint(-1, 2, (2, 5, 12, 18)).float() * torch.inf,
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bit_equal_to_max_unpool2d(kind: str, dtype: torch.dtype, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    source = SOURCES[kind]().nan_to_num(0.0, torch.inf, -torch.inf).to(dtype).to(memory_format=layout)
    values = torch.randn(2, 5, 6, 9).to(dtype).to(memory_format=layout)
    weight = torch.randn(2, 5, 12, 18).to(dtype)
    expected, expected_gradients = run(reference, source, values, weight)
    found, gradients = run(slots, source, values, weight)
    assert torch.equal(found, expected)
    assert torch.equal(torch.signbit(found), torch.signbit(expected))
    for one, two in zip(gradients, expected_gradients, strict=True):
        assert torch.equal(one, two)


def test_a_nan_is_handed_on() -> None:
    source = torch.full((1, 1, 2, 2), torch.nan)
    pooled = F.max_pool2d(source, 2)
    assert max_unpool_2x2(pooled, pooled, source).isnan().any()


def test_keeps_channels_last() -> None:
    source = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    pooled = F.max_pool2d(source, 2)
    assert max_unpool_2x2(pooled, pooled, source).is_contiguous(memory_format=torch.channels_last)


def reference(source: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    pooled, indices = F.max_pool2d(source, 2, return_indices=True)
    return pooled, F.max_unpool2d(values, indices, 2)


def slots(source: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    pooled = F.max_pool2d(source, 2)
    return pooled, max_unpool_2x2(values, pooled, source)


def run(function, source: Tensor, values: Tensor, weight: Tensor):  # type: ignore[no-untyped-def]
    source, values = source.clone().requires_grad_(), values.clone().requires_grad_()
    pooled, large = function(source, values)
    gradients = torch.autograd.grad([pooled, large], [source, values], [torch.ones_like(pooled), weight])
    return large.detach(), gradients
