"""NVIDIA devices as the kernel shows them, which it does inside a container without the driver's libraries, too."""

from __future__ import annotations

from pathlib import Path

_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI vendor; class of display and 3D controllers


def pci_gpus(root: Path = Path("/")) -> list[str]:
    """PCI addresses of NVIDIA GPUs."""
    devices = sorted((root / "sys/bus/pci/devices").glob("*"))
    ours = [device for device in devices if _text(device / "vendor") == _NVIDIA]
    return [device.name for device in ours if _text(device / "class").startswith(_DISPLAY)]


def device_files(root: Path = Path("/")) -> list[str]:
    """The GPUs' device files, without which no program reaches them."""
    return sorted(path.name for path in (root / "dev").glob("nvidia[0-9]*")) + (
        ["dxg"] if (root / "dev/dxg").exists() else []  # of Windows' subsystem for Linux
    )


def kernel_driver(root: Path = Path("/")) -> str:
    """Version of the loaded kernel module; "" where there is none."""
    for word in _text(root / "proc/driver/nvidia/version").split():
        if word[:1].isdigit() and "." in word:
            return word
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
