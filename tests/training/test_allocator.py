from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from segkit.training.allocator import keep_freed_memory
torch.set_num_threads(1)
if {keep}:
    assert keep_freed_memory()
net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 2, 3))
x = torch.rand(4, 3, 128, 128)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        net(x).square().mean().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_a_step_uses_the_memory_of_the_one_before() -> None:
    """The kernel counts the pages that it maps anew: thousands a step, or hardly any."""

    def faults(keep: bool) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert faults(keep=True) * 10 < faults(keep=False)
