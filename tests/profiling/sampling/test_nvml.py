from __future__ import annotations

from collections.abc import Callable

import pytest

from segkit.profiling.records import Missing
from segkit.profiling.sampling.gaps import Gaps
from segkit.profiling.sampling.metric import PATIENCE, Metric
from segkit.profiling.sampling.nvml import IS_LOST, NO_FUNCTION, NOT_SUPPORTED, NvmlError
from segkit.profiling.sampling.throttle import throttle_reasons
from segkit.profiling.sampling.utilisation import time_weighted
from tests.profiling.conftest import NvmlStub

UNKNOWN = 999

# In another order than that of their PCI addresses.
GPUS = """
driver 560.1
gpu GPU-bbbb 00000000:5E:00.0 NVIDIA-A100
total 40e9
limit 400
gpu GPU-aaaa 00000000:3B:00.0 NVIDIA-H100
migmode 1
mig MIG-2222 4 NVIDIA-H100-MIG-1g
total 10e9
mig MIG-3333 5 NVIDIA-H100-MIG-2g
gpu GPU-cccc 00000001:01:00.0 Tesla-V100
capability 7 0
"""

DESCRIBE = """
import json
from dataclasses import asdict
from segkit.profiling.sampling.nvml import Nvml
nvml = Nvml()
gpus = nvml.gpus()
parts = [part for gpu in gpus for part in nvml.mig_devices(gpu)]
found = nvml.find("MIG-3333")
print(json.dumps({
    "driver": nvml.driver(),
    "gpus": [asdict(gpu.info) for gpu in gpus],
    "mig_mode": [gpu.mig_mode for gpu in gpus],
    "parts": [asdict(part.info) for part in parts],
    "instances": [part.instance for part in parts],
    "found": found.uuid,
    "pci": nvml.find_pci("00000001:01:00.0").uuid,
}))
nvml.close()
"""

OPEN = """
import json
from segkit.profiling.sampling.nvml import Nvml, NvmlError
try:
    print(json.dumps([gpu.uuid for gpu in Nvml().gpus()]))
except NvmlError as error:
    print(json.dumps(error.why))
"""

# Reads the utilisation of the first GPU once SECONDS have passed.
UTILISATION = """
import json, time
from segkit.profiling.sampling.nvml import Nvml
from segkit.profiling.sampling.utilisation import Utilisation
nvml = Nvml()
began = time.time()
reader = Utilisation(nvml, nvml.gpus()[0].handle)
time.sleep(max(0, SECONDS - (time.time() - began)))
print(json.dumps([reader.read(), reader.read()]))
"""


def test_devices_are_described_in_order_of_their_pci_address(nvml_stub: NvmlStub) -> None:
    told = nvml_stub.run(DESCRIBE, GPUS)
    assert told["driver"] == "560.1"
    assert [gpu["uuid"] for gpu in told["gpus"]] == ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]
    assert told["gpus"][1] == {
        "uuid": "GPU-bbbb",
        "name": "NVIDIA-A100",
        "pci": "00000000:5E:00.0",
        "memory_total": 40_000_000_000,
        "power_limit": 400.0,
        "mig": False,
        "parent": None,
    }
    assert told["mig_mode"] == [True, False, False]
    assert told["pci"] == "GPU-cccc"


def test_a_mig_device_knows_the_gpu_it_is_a_part_of(nvml_stub: NvmlStub) -> None:
    told = nvml_stub.run(DESCRIBE, GPUS)
    assert [part["uuid"] for part in told["parts"]] == ["MIG-2222", "MIG-3333"]
    first = told["parts"][0]
    assert (first["mig"], first["parent"], first["memory_total"]) == (True, "GPU-aaaa", 10_000_000_000)
    assert first["power_limit"] is None
    assert told["instances"] == [4, 5]
    assert told["found"] == "MIG-3333"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (18, "different versions"),
        (9, "driver is not loaded"),
        (4, "no permission"),
        (13, "too old"),
        (999, "NVML error 999"),
    ],
)
def test_a_driver_that_cannot_be_used_says_why(nvml_stub: NvmlStub, code: int, words: str) -> None:
    assert words in nvml_stub.run(OPEN, f"fail nvmlInitWithFlags {code} -1 0\n{GPUS}")


def test_no_gpu(nvml_stub: NvmlStub) -> None:
    assert "no NVIDIA GPU" in nvml_stub.run(OPEN, "driver 560.1\n")


def test_a_gpu_of_another_job_is_left_out(nvml_stub: NvmlStub) -> None:
    assert nvml_stub.run(OPEN, GPUS + "fail nvmlDeviceGetHandleByIndex_v2 4 0 0\n") == ["GPU-aaaa", "GPU-cccc"]


def test_a_library_that_cannot_be_loaded(nvml_stub: NvmlStub) -> None:
    (nvml_stub.folder / "libnvidia-ml.so.1").write_bytes(b"")
    told = nvml_stub.run(OPEN, GPUS, LD_LIBRARY_PATH=str(nvml_stub.folder))
    assert "libnvidia-ml.so.1 was not found" in told


def test_without_the_package(nvml_stub: NvmlStub) -> None:
    assert "nvidia-ml-py is not installed" in nvml_stub.run("import sys; sys.modules['pynvml'] = None" + OPEN, GPUS)


def test_processes_on_a_device(nvml_stub: NvmlStub) -> None:
    (nvml_stub.folder / "processes").write_text("GPU-bbbb 17\nGPU-cccc 18\nGPU-bbbb 19\n")
    program = """
import json
from segkit.profiling.sampling.nvml import Nvml
nvml = Nvml()
print(json.dumps([sorted(nvml.processes(gpu)) for gpu in nvml.gpus()]))
"""
    script = f"processes {nvml_stub.folder / 'processes'}\n{GPUS}"
    for old in (False, True):
        assert nvml_stub.run(program, script, old=old) == [[], [17, 19], [18]]


# --- utilisation -----------------------------------------------------------------------------------


def test_each_buffered_measurement_weighs_as_much_as_it_lasted(nvml_stub: NvmlStub) -> None:
    # 100 % for 1.2 s, then 0 % for 0.3 s; what ended before the first reading does not count.
    script = "gpu GPU-a 00000000:3B:00.0 X\nutil 7 7 1\n"
    script += "sample -3 50\nsample -0.2 50\nsample 1.0 100\nsample 1.3 0\n"
    first, second = nvml_stub.run(UTILISATION.replace("SECONDS", "1.5"), script)
    assert first == pytest.approx(1.2 / 1.5, abs=1e-3)
    assert second == 0.07  # nothing new in the buffer: the driver's latest period


@pytest.mark.parametrize("script", ["", "buffer 0.02 100\nfail nvmlDeviceGetSamples 13 -1 0\n"])
def test_without_a_buffer_the_driver_is_polled(nvml_stub: NvmlStub, script: str) -> None:
    gpu = "gpu GPU-a 00000000:3B:00.0 X\nutil 42 42 1\n"
    assert nvml_stub.run(UTILISATION.replace("SECONDS", "0"), gpu + script) == [0.42, 0.42]


def test_time_weights() -> None:
    assert time_weighted([], 5) is None
    assert time_weighted([(5, 1.0)], 5) is None  # seen already
    assert time_weighted([(5, 0.9), (15, 1.0), (20, 0.4)], 5) == pytest.approx((10 * 1.0 + 5 * 0.4) / 15)
    assert time_weighted([(20, 0.4), (5, 0.9), (15, 1.0), (15, 1.0)], 5) == pytest.approx(0.8)  # any order, repeats


def test_an_overflown_buffer_gives_no_weight_to_what_was_lost() -> None:
    # The one at 5 is gone: who knows when the one that ended at 1000 began.
    assert time_weighted([(1000, 1.0), (1010, 0.0), (1020, 0.5)], 5) == pytest.approx(0.25)
    assert time_weighted([(1000, 0.7)], 5) == 0.7


# --- one quantity, several ways --------------------------------------------------------------------


class Way:
    """Gives the values in turn; an int is an NVML error."""

    def __init__(self, *turns: float | int) -> None:
        self.turns, self.calls = list(turns), 0

    def __call__(self) -> float:
        turn = self.turns[min(self.calls, len(self.turns) - 1)]
        self.calls += 1
        if isinstance(turn, int):
            raise NvmlError(turn)
        return turn


def metric(*ways: Callable[[], float]) -> tuple[Metric[float], list[str]]:
    noted: list[str] = []
    return Metric(noted.append, *ways), noted


def test_the_first_way_that_works_is_kept() -> None:
    closed, working = Way(NO_FUNCTION), Way(1.0, 2.0)
    quantity, noted = metric(closed, working, Way(9.0))
    assert [quantity.read(), quantity.read()] == [1.0, 2.0]
    assert (closed.calls, noted) == (1, [])


def test_no_way_is_none_and_a_reason_never_zero() -> None:
    quantity, noted = metric(Way(NOT_SUPPORTED), Way(NO_FUNCTION))
    assert [quantity.read(), quantity.read()] == [None, None]
    assert noted == ["the device does not support it"]


def test_the_reason_that_tells_most_is_noted() -> None:
    # The new call is not in this driver; the old one is, and the device does not support it.
    quantity, noted = metric(Way(NO_FUNCTION), Way(NOT_SUPPORTED))
    quantity.read()
    assert noted == ["the device does not support it"]


def test_a_failure_in_passing_costs_one_value() -> None:
    quantity, noted = metric(Way(1.0, UNKNOWN, 2.0))
    assert [quantity.read() for _ in range(3)] == [1.0, None, 2.0]
    quantity.close()
    assert noted == []


def test_a_failure_that_stays_is_noted() -> None:
    quantity, noted = metric(Way(1.0, UNKNOWN))
    assert [quantity.read() for _ in range(PATIENCE + 3)] == [1.0] + [None] * (PATIENCE + 2)
    assert len(noted) == 1
    assert "999" in noted[0]


def test_what_never_gave_a_value_in_a_short_run_is_noted_at_its_end() -> None:
    quantity, noted = metric(Way(UNKNOWN))
    quantity.read()
    quantity.close()
    assert noted == ["the driver answered with NVML error 999"]


def test_a_lost_device_is_not_hidden() -> None:
    quantity, _ = metric(Way(IS_LOST), Way(1.0))
    with pytest.raises(NvmlError, match="lost"):
        quantity.read()


def test_gaps_name_devices_only_where_they_differ() -> None:
    gaps = Gaps()
    gaps.note("energy", "not there", "GPU-11111111-a")
    gaps.note("energy", "not there", "GPU-22222222-b")
    gaps.note("power", "not there", "GPU-22222222-b")
    gaps.note("power", "not there", "GPU-22222222-b")
    gaps.note("time", "no clock")
    assert gaps.changed
    assert gaps.tell(["GPU-11111111-a", "GPU-22222222-b"]) == [
        Missing("energy", "not there"),
        Missing("power of GPU-22222222", "not there"),
        Missing("time", "no clock"),
    ]
    assert not gaps.changed


def test_throttle_reasons_leave_out_what_slows_nothing() -> None:
    assert throttle_reasons(0x001 | 0x002 | 0x100) == []  # idle, application clocks, display clocks
    assert throttle_reasons(0x04 | 0x01) == ["power limit"]
    assert throttle_reasons(0x08) == ["hardware slowdown"]
    assert throttle_reasons(0x08 | 0x40) == ["temperature limit (hardware)"]
