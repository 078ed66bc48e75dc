"""What one would write first: FastAPI, decode, run, encode. `python serving_fastapi.py MODEL PORT`"""

import io
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, File, Response
from PIL import Image

app = FastAPI()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])


@app.post("/segment")
def segment(scan: bytes = File()) -> Response:
    """A mask of the first page, as segkit writes it."""
    image = np.asarray(Image.open(io.BytesIO(scan)))[None]
    mask = session.run(["mask"], {"image": image})[0][0]
    buffer = io.BytesIO()
    Image.fromarray(mask * np.uint8(255)).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    return Response(buffer.getvalue(), media_type="image/tiff")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
