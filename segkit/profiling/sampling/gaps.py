"""Keeps account of what could not be measured, so that a report can say it once and in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.profiling.records import Missing

SHORT = 12  # characters of a UUID that tell devices apart: GPU-1a2b3c4d


class Gaps:
    """What is missing and why, for each device; `changed` until it is told."""

    def __init__(self) -> None:
        self._devices: dict[tuple[str, str], list[str]] = {}
        self.changed = False

    def note(self, what: str, why: str, device: str = "") -> None:
        """Note it; `device` is a UUID, empty for what concerns no single device. Said twice, it counts once."""
        devices = self._devices.setdefault((what, why), [])
        if device not in devices:
            devices.append(device)
            self.changed = True

    def add(self, items: Sequence[Missing]) -> None:
        """Note what concerns no single device."""
        for item in items:
            self.note(item.what, item.why)

    def tell(self, devices: Sequence[str]) -> list[Missing]:
        """The account; devices are named only where a gap is not that of all `devices`."""
        self.changed = False
        told = []
        for (what, why), having in self._devices.items():
            if "" not in having and not set(devices) <= set(having):
                what = f"{what} of {', '.join(uuid[:SHORT] for uuid in having)}"
            told.append(Missing(what, why))
        return told
