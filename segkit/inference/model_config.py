"""How Triton is told of a model: the fields of its ModelConfig, from the model's own metadata.

`segkit export --triton` writes them as config.pbtxt, and `segkit serve` answers with them as JSON.
"""

from __future__ import annotations

from typing import Any

from segkit.model_metadata import INPUT, MASK, PROBABILITY, ModelMetadata

LABELS = "labels.txt"  # beside config.pbtxt: the name of each class, one a line
MAX_BATCH = 32
_PREFERRED = (4, 8, 16, 32)
_DELAY_US = 2000
_QUEUE = 256  # requests that wait; one more is refused at once instead of late
_TIMEOUT_US = 120_000_000


def model_config(name: str, metadata: ModelMetadata) -> dict[str, Any]:
    """The fields of `inference.ModelConfig`, named as in its protobuf; enumerations are `Enum`."""
    height, width = metadata.size
    channels = len(metadata.channels)
    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"all": {}},
        "max_batch_size": MAX_BATCH,
        "input": [{"name": INPUT, "data_type": Enum("TYPE_UINT8"), "dims": [-1, -1, channels]}],
        "output": [
            {"name": MASK, "data_type": Enum("TYPE_UINT8"), "dims": [-1, -1], "label_filename": LABELS},
            {
                "name": PROBABILITY,
                "data_type": Enum("TYPE_FP32"),
                "dims": [len(metadata.classes), -1, -1],
                "label_filename": LABELS,
            },
        ],
        "dynamic_batching": {
            "preferred_batch_size": list(_PREFERRED),
            "max_queue_delay_microseconds": _DELAY_US,
            "default_queue_policy": {
                "timeout_action": Enum("REJECT"),
                "default_timeout_microseconds": _TIMEOUT_US,
                "max_queue_size": _QUEUE,
            },
        },
        "instance_group": [{"kind": Enum("KIND_AUTO"), "count": 1}],
        "model_warmup": [
            {
                "name": f"{count} of {height} x {width}",
                "batch_size": count,
                "inputs": [
                    {
                        "key": INPUT,
                        "value": {
                            "data_type": Enum("TYPE_UINT8"),
                            "dims": [height, width, channels],
                            "zero_data": True,
                        },
                    }
                ],
            }
            for count in (1, _PREFERRED[0])
        ],
    }


class Enum(str):
    """The name of a value of a protobuf enumeration: written without quotes in a pbtxt."""

    __slots__ = ()
