"""Why a GPU's clocks are lower than they could be."""

from __future__ import annotations

# Bits of nvmlDeviceGetCurrentClocksEventReasons that slow work down. Not among them: the GPU is idle, and clocks that
# somebody has chosen (application clocks, display).
REASONS = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x10: "clocks held to those of another GPU (sync boost)",
    0x20: "temperature limit",
    0x40: "temperature limit (hardware)",
    0x80: "external power brake",
}
HARDWARE, HARDWARE_CAUSES = 0x08, 0x40 | 0x80


def throttle_reasons(bits: int) -> list[str]:
    """The reasons in words; an empty list where nothing slows the GPU."""
    if bits & HARDWARE_CAUSES:
        bits &= ~HARDWARE  # it is set as well, and says less
    return [reason for bit, reason in REASONS.items() if bits & bit]
