"""What NVIDIA's chips can do at most, from their data sheets."""

from __future__ import annotations

# Part of the device's name -> dense 16-bit tensor rate in TFLOP/s (data sheets, without sparsity). First match counts.
DENSE_16_BIT = {
    "B200": 2250.0,
    "H200": 989.4,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.4,
    "A100": 311.8,
    "L40S": 362.0,
    "L4": 121.0,
    "A40": 149.7,
    "V100": 125.0,
}


def share_of_peak(flops_per_s: float, device: str, precision: str) -> float | None:
    """Model FLOP utilisation: of the dense rate of 16-bit tensor cores; None for other precisions and unknown chips."""
    peak = next((rate for name, rate in DENSE_16_BIT.items() if name in device), None)
    return flops_per_s / (peak * 1e12) if peak is not None and precision in ("bf16", "fp16") else None
