"""segkit: train, profile, export and run segmentation nets on MRI slices."""

import os

__version__ = "0.1.0"

# From 1.29 on the official ONNX Runtime reports sessions to Microsoft and keeps an identifier in the home folder. It
# reads this variable once, when it is imported. Who wants to report sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
