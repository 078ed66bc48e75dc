from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segkit.profiling.records import SamplerInfo, read_sampler_info
from segkit.profiling.sampling.process_tree import ProcessTree, process_stat
from tests.profiling.conftest import NvmlStub, compile_library

PCI = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

# NVML's indices are 0: GPU-b1, 1: GPU-a1, 2: GPU-a2; by PCI address it is a1, a2, b1; the fastest is b1.
THREE = """
gpu GPU-b1000000 00000000:AF:00.0 NVIDIA-H100
capability 9 0
gpu GPU-a1000000 00000000:3B:00.0 NVIDIA-A30
capability 8 0
gpu GPU-a2000000 00000000:5E:00.0 NVIDIA-A30
capability 8 0
"""

# The first GPU is divided.
DIVIDED = """
gpu GPU-a1000000 00000000:3B:00.0 NVIDIA-H100
migmode 1
mig MIG-1111 1 H100-MIG
mig MIG-2222 2 H100-MIG
gpu GPU-a2000000 00000000:5E:00.0 NVIDIA-H100
"""

SHOW = """
import json, os
from segkit.profiling.sampling.devices import visible
from segkit.profiling.sampling.nvml import Nvml
chosen = visible(Nvml(), os.environ)
print(json.dumps([[device.uuid for device in chosen.devices], [item.why for item in chosen.missing]]))
"""


def shown(stub: NvmlStub, script: str, wanted: str | None, **more: str) -> tuple[list[str], list[str]]:
    """The visible devices, and what is uncertain."""
    devices, why = stub.run(SHOW, script, **more, **({} if wanted is None else {"CUDA_VISIBLE_DEVICES": wanted}))
    return devices, why


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, ["GPU-a1000000", "GPU-a2000000", "GPU-b1000000"]),
        ("0", ["GPU-a1000000"]),
        ("2,0", ["GPU-b1000000", "GPU-a1000000"]),
        (" 1 , 2", ["GPU-a2000000", "GPU-b1000000"]),
        ("1st", ["GPU-a2000000"]),
        ("1,-1,2", ["GPU-a2000000"]),  # CUDA stops at what is not valid
        ("1,7,2", ["GPU-a2000000"]),
        ("1,1", []),  # CUDA refuses a repeated device
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("GPU-a2", ["GPU-a2000000"]),
        ("GPU-b1,GPU-a1000000", ["GPU-b1000000", "GPU-a1000000"]),
        ("GPU-a", []),  # begins two UUIDs
    ],
)
def test_cuda_visible_devices(nvml_stub: NvmlStub, wanted: str | None, expected: list[str]) -> None:
    devices, why = shown(nvml_stub, THREE, wanted, **PCI)
    assert devices == expected
    assert bool(why) == (not expected)


def test_by_default_cuda_counts_from_the_fastest(nvml_stub: NvmlStub) -> None:
    devices, why = shown(nvml_stub, THREE, "0,1")
    assert devices == ["GPU-b1000000", "GPU-a1000000"]
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in why[0]  # how it compares models is not documented


def test_equal_gpus_and_uuids_leave_no_doubt(nvml_stub: NvmlStub) -> None:
    equal = THREE.replace("capability 9 0", "capability 8 0")
    assert shown(nvml_stub, equal, "2") == (["GPU-b1000000"], [])
    assert shown(nvml_stub, THREE, "GPU-a1") == (["GPU-a1000000"], [])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("MIG-2222", ["MIG-2222"]),
        ("MIG-2222,MIG-1111", ["MIG-2222", "MIG-1111"]),
        ("MIG-9999", []),
        ("0", ["MIG-1111"]),  # CUDA computes on the first part
        ("GPU-a1000000", ["MIG-1111"]),
        ("1", ["GPU-a2000000"]),
        (None, ["MIG-1111", "GPU-a2000000"]),
    ],
)
def test_mig_devices(nvml_stub: NvmlStub, wanted: str | None, expected: list[str]) -> None:
    assert shown(nvml_stub, DIVIDED, wanted)[0] == expected


# --- devices of torch ------------------------------------------------------------------------------


def uuid_of(stub: NvmlStub, script: str, index: int, properties: dict[str, Any], **more: str) -> str | None:
    """As for a device of torch with these properties."""
    program = f"""
import json
from types import SimpleNamespace
from segkit.profiling.sampling.devices import uuid_of
print(json.dumps(uuid_of(SimpleNamespace(**{properties!r}), {index})))
"""
    uuid: str | None = stub.run(program, script, **more)
    return uuid


def test_torch_s_uuid_counts_whatever_the_numbering(nvml_stub: NvmlStub) -> None:
    assert uuid_of(nvml_stub, THREE, 0, {"uuid": "a2000000"}, CUDA_VISIBLE_DEVICES="1") == "GPU-a2000000"


def test_torch_s_pci_address(nvml_stub: NvmlStub) -> None:
    address = {"pci_domain_id": 0, "pci_bus_id": 0x5E, "pci_device_id": 0}
    assert uuid_of(nvml_stub, THREE, 0, address) == "GPU-a2000000"


def test_an_old_torch_that_tells_neither(nvml_stub: NvmlStub) -> None:
    assert uuid_of(nvml_stub, THREE, 1, {}, CUDA_VISIBLE_DEVICES="2,1", **PCI) == "GPU-a2000000"
    assert uuid_of(nvml_stub, THREE, 5, {}) is None


def test_a_mig_device_of_torch(nvml_stub: NvmlStub) -> None:
    assert uuid_of(nvml_stub, DIVIDED, 0, {"uuid": "2222"}) == "MIG-2222"
    # Some versions of CUDA tell the whole GPU's UUID.
    assert uuid_of(nvml_stub, DIVIDED, 0, {"uuid": "a1000000"}, CUDA_VISIBLE_DEVICES="MIG-2222") == "MIG-2222"


def test_without_nvml_torch_s_word_is_taken(nvml_stub: NvmlStub) -> None:
    assert uuid_of(nvml_stub, "fail nvmlInitWithFlags 18 -1 0\n" + THREE, 0, {"uuid": "abc"}) == "GPU-abc"


# --- devices of somebody else's program ------------------------------------------------------------

# Samples this program's child for SECONDS. The child starts a grandchild, which does the work.
FOREIGN = """
import json, subprocess, sys, time
from pathlib import Path
from segkit.profiling.sampling.sampler import Sampler
grandchild = "import time, ctypes; " + LOAD + " print(end='', flush=True); time.sleep(30)"
child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {grandchild!r}]); "
child += "print(p.pid, flush=True); p.wait()"
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True)
worker = int(process.stdout.readline())
Path("processes").write_text(f"GPU-a2000000 {worker if NAMED else 1}\\nGPU-b1000000 1\\n")
with Sampler(Path("profile"), devices=None, interval=0.1, pid=process.pid) as sampler:
    time.sleep(SECONDS)
import os, signal
os.kill(worker, signal.SIGTERM)
process.wait()
print("null")
"""


def foreign(stub: NvmlStub, *, named: bool, seconds: float, load: str = "''", **more: str) -> SamplerInfo:
    """What the sampler of another program wrote."""
    program = FOREIGN.replace("NAMED", str(named)).replace("SECONDS", str(seconds)).replace("LOAD", load)
    stub.run(program, f"processes {stub.folder / 'processes'}\n{THREE}", **more)
    (file,) = (stub.folder / "profile").glob("sampler-*.json")
    return read_sampler_info(file)


def test_only_the_devices_on_which_the_program_computes(nvml_stub: NvmlStub) -> None:
    info = foreign(nvml_stub, named=True, seconds=0.5)
    assert [device.uuid for device in info.devices] == ["GPU-a2000000"]
    (samples,) = (nvml_stub.folder / "profile").glob("gpu-*.jsonl")
    assert {json.loads(line)["gpu"] for line in samples.read_text().splitlines()} == {"GPU-a2000000"}


def test_a_program_that_uses_no_gpu(nvml_stub: NvmlStub) -> None:
    info = foreign(nvml_stub, named=False, seconds=0.5)
    assert info.devices == []
    assert [item.why for item in info.missing] == ["no process of the program was seen computing on a GPU"]


def test_where_a_container_hides_processes_its_visible_devices_count(nvml_stub: NvmlStub) -> None:
    library = compile_library(nvml_stub.folder / "cuda", "libcuda.so.1") / "libcuda.so.1"
    load = repr(f"ctypes.CDLL({str(library)!r});")
    info = foreign(nvml_stub, named=False, seconds=3.5, load=load, CUDA_VISIBLE_DEVICES="2", **PCI)
    assert [device.uuid for device in info.devices] == ["GPU-b1000000"]
    assert any("container" in item.why for item in info.missing)


# --- the process tree ------------------------------------------------------------------------------


def test_the_tree_is_that_of_the_kernel() -> None:
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '30']); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        tree = ProcessTree(os.getpid())
        assert {child.pid, grandchild} <= tree.scan()
        assert ProcessTree(child.pid).scan() == {grandchild}
        assert ProcessTree(grandchild).scan() == set()
        os.kill(grandchild, 15)
        child.wait()
        assert not {child.pid, grandchild} & tree.scan()


def test_a_process_that_starts_after_a_scan_is_found_by_the_next() -> None:
    tree = ProcessTree(os.getpid())
    tree.scan()
    with subprocess.Popen(["sleep", "30"]) as child:
        assert child.pid in tree.scan()
        child.kill()


def test_a_name_with_brackets_and_spaces(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "30"]) as child:
        stat = process_stat(child.pid)
        assert stat is not None
        assert stat.parent == os.getpid()
        child.kill()


def test_no_such_process() -> None:
    assert process_stat(2**22 + 1) is None
