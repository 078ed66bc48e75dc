"""Who made a mask or a report: what every object that is written says of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segkit.model_metadata import ModelMetadata

MANUFACTURER = "segkit"


@dataclass(frozen=True)
class Author:
    """The model behind an object.

    Attributes:
        model: the net's name.
        version: the run that trained it, else the version of segkit that exported it.
        software: version of segkit that runs it.
    """

    model: str
    version: str
    software: str

    @classmethod
    def of(cls, metadata: ModelMetadata) -> Author:
        """The author by a model's metadata."""
        from segkit import __version__

        return cls(metadata.model, metadata.run_id or metadata.segkit or "unknown", __version__)

    def equipment(self) -> dict[str, Any]:
        """The attributes of the general equipment module, as highdicom names them."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": f"{self.model} {self.version}"[:64],
            "software_versions": [f"segkit {self.software}"[:64], f"model {self.version}"[:64]],
            "device_serial_number": self.version[:64],
        }

    def algorithm(self) -> Any:
        """The algorithm identification sequence."""
        from highdicom import AlgorithmIdentificationSequence
        from pydicom.sr.codedict import codes

        return AlgorithmIdentificationSequence(
            name=self.model[:64],
            family=codes.cid7162.ArtificialIntelligence,
            version=self.version[:64],
            source="segkit",
        )
