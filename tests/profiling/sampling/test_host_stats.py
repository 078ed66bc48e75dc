from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segkit.profiling.records import HostSample
from segkit.profiling.sampling.host_stats import HostStats

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

TICK = 1 / os.sysconf("SC_CLK_TCK")
# Computes for SECONDS of CPU time, then says so and waits for a line.
BURN = """
import sys, time
block = bytearray(SIZE)
block[::4096] = b"x" * len(block[::4096])
while time.process_time() < SECONDS: pass
print(time.process_time(), flush=True)
sys.stdin.readline()
"""


def start(program: str) -> subprocess.Popen[str]:
    """A Python process that talks over pipes."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True)


def said(process: subprocess.Popen[str]) -> float:
    """The number that the process prints next."""
    assert process.stdout is not None
    return float(process.stdout.readline())


class Total:
    """Adds up CPU seconds, as a user of the samples would: rate times time."""

    def __init__(self, stats: HostStats) -> None:
        self.stats, self.when = stats, time.monotonic()
        self.workers = self.main = 0.0

    def add(self) -> HostSample:
        sample, now = self.stats.read(time.time()), time.monotonic()
        self.workers += (sample.cpu_workers or 0.0) * (now - self.when)
        self.main += (sample.cpu_main or 0.0) * (now - self.when)
        self.when = now
        return sample


def test_cpu_of_a_child_is_what_the_child_counts_itself() -> None:
    total = Total(HostStats())
    others = total.add().workers or 0  # earlier tests may have left a child behind, such as multiprocessing's tracker
    with start(BURN.replace("SECONDS", "0.3").replace("SIZE", "64 * 2**20")) as child:
        used = said(child)
        sample = total.add()
        assert total.workers == pytest.approx(used, abs=4 * TICK)
        assert sample.workers == others + 1
        assert sample.rss is not None
        assert sample.rss > 64 * 2**20
        child.communicate("\n")


def test_cpu_of_a_child_that_lived_between_two_readings() -> None:
    total = Total(HostStats())
    others = total.add().workers
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with start(BURN.replace("SECONDS", "0.2").replace("SIZE", "1")) as child:
        child.communicate("\n")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    sample = total.add()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert total.workers == pytest.approx(used, abs=4 * TICK)
    assert sample.workers == others


def test_nothing_counts_twice_when_a_child_ends() -> None:
    total = Total(HostStats())
    with start(BURN.replace("SECONDS", "0.2").replace("SIZE", "1")) as child:
        used = said(child)
        total.add()
        child.communicate("\n")
    total.add()
    assert total.workers == pytest.approx(used, abs=6 * TICK)


def test_own_cpu() -> None:
    total = Total(HostStats())
    began = time.process_time()
    while time.process_time() - began < 0.2:
        pass
    sample = total.add()
    assert total.main == pytest.approx(time.process_time() - began, abs=4 * TICK)
    assert sample.cpu_machine is not None
    assert sample.cpu_machine > 0


def test_the_ranks_of_a_node_count_together() -> None:
    ranks = [start(BURN.replace("SIZE", "1").replace("SECONDS", "0.4")) for _ in range(2)]
    try:
        total = Total(HostStats(*(rank.pid for rank in ranks)))
        spent = sum(said(rank) for rank in ranks)
        total.add()
        assert 0.4 - 2 * TICK < total.main <= spent + 4 * TICK  # the first may have begun before it was sampled
        assert total.workers == 0
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def test_another_process_s_tree() -> None:
    with start("import time; time.sleep(0.1); print(1, flush=True); input()") as idle:
        said(idle)
        total = Total(HostStats(idle.pid))
        with start(BURN.replace("SECONDS", "0.1").replace("SIZE", "1")) as other:
            said(other)
            sample = total.add()
            other.communicate("\n")
        assert total.main + total.workers <= 2 * TICK  # the other one is no child of it
        assert sample.workers == 0
        idle.communicate("\n")


def test_bytes_from_storage_and_not_from_the_page_cache(tmp_path: Path) -> None:
    size = 8 * 2**20
    file = tmp_path / "data"
    file.write_bytes(os.urandom(size))
    stats = HostStats()
    if not os.access("/proc/self/io", os.R_OK):
        pytest.skip("/proc/self/io cannot be read here")
    handle = os.open(file, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    before = stats._before
    assert sum(len(part) for part in iter(lambda: os.read(handle, 2**20), b"")) == size
    cold = stats.read(0)
    now = stats._before
    assert cold.read is not None
    if cold.read == 0:
        pytest.skip("the temporary folder is in memory")
    assert cold.read * (now.when - before.when) == pytest.approx(size, rel=0.1)
    os.lseek(handle, 0, os.SEEK_SET)
    while os.read(handle, 2**20):
        pass
    warm = stats.read(0)
    assert warm.read is not None
    assert warm.read * (stats._before.when - now.when) < size / 10
    os.close(handle)


def test_what_the_system_does_not_tell_is_none_with_a_reason() -> None:
    stats = HostStats(2**22 + 1)
    sample = stats.read(1.0)
    assert (sample.cpu_main, sample.cpu_workers, sample.workers, sample.rss, sample.read) == (None,) * 5
    assert sample.cpu_machine is not None
    assert "there is no process" in stats.missing()[0].why


def test_waiting_for_storage_is_a_share() -> None:
    stats = HostStats()
    share = stats.read(0).io_wait
    if share is None:
        assert any("PSI" in item.why for item in stats.missing())
    else:
        assert 0 <= share <= 1
