"""From a scan to a mask with ONNX Runtime; nothing here needs PyTorch."""
