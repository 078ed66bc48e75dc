"""For Triton's Python backend: runs the ONNX file beside it. Used by test_triton.py, inside Triton."""

from pathlib import Path

import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args):
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        image = backend.get_input_tensor_by_name(request, "image").as_numpy()
        outputs = self.session.run(["mask", "probability"], {"image": image})
        tensors = [backend.Tensor(name, value) for name, value in zip(("mask", "probability"), outputs, strict=True)]
        return backend.InferenceResponse(tensors)
