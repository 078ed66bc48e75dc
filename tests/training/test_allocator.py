from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from segkit.training.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
def step():
    torch.ones(16 << 20)  # 64 MiB
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_a_buffer_that_was_freed_is_used_again() -> None:
    """The kernel counts the pages that it maps anew: 16,384 (or 32 huge ones) for each of five buffers, or none."""

    def faults(keep: bool) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert faults(keep=True) * 10 < faults(keep=False)
