"""One measurement of an exported model, in a process of its own; prints JSON. Only ONNX Runtime and NumPy.

    python -m segkit.bench.inference_process '{"model": ..., "spawned": ..., ...}'

What is imported before the clocks are read is kept to the least, so that the cold start's parts are true.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Start, load, run once, run many times; each part timed."""
    asked = json.loads(sys.argv[1])
    began = time.time()
    import numpy as np
    import onnxruntime

    imported = time.time()
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked["threads"]
    options.log_severity_level = 4
    if any("CUDA" in name for name in asked["providers"]) and hasattr(onnxruntime, "preload_dlls"):
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(asked["model"], options, providers=asked["providers"])
    if session.get_providers()[0] != asked["providers"][0]:
        sys.exit(f"ONNX Runtime fell back to {session.get_providers()[0]}")
    loaded = time.time()
    images = np.load(asked["images"], allow_pickle=False)
    images = np.ascontiguousarray(np.resize(images, (asked["batch"], *images.shape[1:])))
    ready = time.time()
    mask = session.run(["mask"], {"image": images})[0]
    first = time.time()
    seconds: list[float] = []
    while len(seconds) < asked["least"] or (sum(seconds) < asked["seconds"] and len(seconds) < asked["most"]):
        start = time.perf_counter()
        session.run(["mask"], {"image": images})
        seconds.append(time.perf_counter() - start)
    if asked.get("mask"):
        np.save(asked["mask"], mask, allow_pickle=False)
    parts = {
        "interpreter": began - asked["spawned"],
        "imports": imported - began,
        "load": loaded - imported,
        "first": first - ready,
    }
    print(json.dumps({"cold": parts, "seconds": seconds}))


if __name__ == "__main__":
    main()
