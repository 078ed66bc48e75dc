"""The same with LitServe and its dynamic batching. `python serving_litserve.py MODEL PORT`"""

import io
import sys

import litserve
import numpy as np
import onnxruntime
from fastapi import Response
from PIL import Image


class Segment(litserve.LitAPI):
    """Decodes, stacks, runs, encodes."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self.session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])

    def decode_request(self, request) -> np.ndarray:  # type: ignore[no-untyped-def]  # LitServe reads annotations
        """The pixels of the first page."""
        return np.asarray(Image.open(request["scan"].file))

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Slices of one size."""
        return np.stack(inputs)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class indices; a batch of one comes without its axis where batching is off."""
        masks: np.ndarray = self.session.run(["mask"], {"image": images})[0]
        return masks

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """One mask a request."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        """A mask file, as segkit writes it."""
        buffer = io.BytesIO()
        Image.fromarray(output * np.uint8(255)).save(buffer, "TIFF", compression="tiff_adobe_deflate")
        return Response(buffer.getvalue(), media_type="image/tiff")


if __name__ == "__main__":
    api = Segment(max_batch_size=4, batch_timeout=0.002, api_path="/segment")
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning"
    )
