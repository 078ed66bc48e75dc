from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
from PIL import Image

from segkit.imaging.read import read_scan
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.session import Model
from tests.serving.conftest import Server, decoded, encoded, picture, serving, truth
from tests.threshold_model import threshold_metadata, write_threshold_model


def nifti(shape: tuple[int, int, int] = (24, 20, 12), seed: int = 0) -> nibabel.Nifti1Image:
    affine = np.array([[-1.5, 0, 0, 10], [0, 1.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])
    voxels = np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)
    return nibabel.Nifti1Image(voxels, affine)


def events_of(text: str) -> list[tuple[str, dict[str, object]]]:
    found = re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)
    return [(name, json.loads(data)) for name, data in found]


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_mask_has_the_format_and_size_of_the_input(server: Server, kind: str) -> None:
    pixels = picture(1)
    response = server.post(encoded(pixels, kind))
    assert response.status_code == 200
    assert response.headers["content-type"] == f"image/{kind.lower()}"
    assert response.headers["x-model"] == "three/1"
    assert Image.open(io.BytesIO(response.content)).format == kind
    np.testing.assert_array_equal(decoded(response.content), truth(pixels))


def test_nifti_mask_keeps_affine_and_shape_and_is_what_the_command_line_gives(
    server: Server, models: Path, tmp_path: Path
) -> None:
    image = nifti()
    path = tmp_path / "scan.nii.gz"
    nibabel.save(image, path)
    response = server.post(path.read_bytes(), model="four")
    assert response.headers["content-type"] == "application/gzip"
    (tmp_path / "mask.nii.gz").write_bytes(response.content)
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, image.affine)
    scan = read_scan(path)
    own = Segmenter(Model.load(models / "four.onnx", "cpu")).segment(scan)
    assert scan.nifti is not None
    np.testing.assert_array_equal(np.asarray(mask.dataobj), scan.nifti.to_file(own.mask))


def test_a_models_rule_for_volumes_holds_over_http_unless_it_is_not_wanted(tmp_path: Path) -> None:
    metadata = threshold_metadata(channels=1, fit="pad")
    model = write_threshold_model(tmp_path / "m.onnx", replace(metadata, smooth=0.8, threshold=0.4, min_lesion="50%"))
    nibabel.save(nifti(), tmp_path / "scan.nii.gz")
    body = (tmp_path / "scan.nii.gz").read_bytes()
    scan, segmenter = read_scan(tmp_path / "scan.nii.gz"), Segmenter(Model.load(model, "cpu"))
    with serving(tmp_path, "--model", model) as running:
        for words, slicing in (({}, Slicing()), ({"by_slice": "true"}, Slicing(by_slice=True))):
            got = running.post(body, answer="measures", **words).json()
            own = segmenter.segment(scan, slicing)
            assert got["classes"]["tumour"]["pixels"] == np.count_nonzero(own.mask)
            assert got["rule"] == own.rule.as_metadata()
    assert np.any(segmenter.segment(scan).mask != segmenter.segment(scan, Slicing(by_slice=True)).mask)


def test_uncompressed_nifti_by_a_form_is_the_same(server: Server, tmp_path: Path) -> None:
    nibabel.save(nifti(), tmp_path / "scan.nii")
    raw = (tmp_path / "scan.nii").read_bytes()
    plain = server.post(raw, model="four").content
    form = httpx.post(f"{server.url}segment?model=four", files={"scan": ("any name.bin", raw)})
    packed = httpx.post(
        f"{server.url}segment?model=four", content=gzip.compress(raw), headers={"Content-Encoding": "gzip"}
    )
    assert plain == form.content == packed.content


def test_sequences_of_a_form_are_channels_and_flair_stands_in(server: Server, tmp_path: Path) -> None:
    files = {}
    for seed, name in enumerate(("pre", "flair")):
        nibabel.save(nifti(seed=seed), tmp_path / f"{name}.nii.gz")
        files[name] = (tmp_path / f"{name}.nii.gz").read_bytes()
    both = httpx.post(f"{server.url}segment?model=three", files=files)
    assert both.status_code == 200, both.text
    # The model looks at the first channel, so that of FLAIR alone differs from that with `pre`.
    alone = httpx.post(f"{server.url}segment?model=three", files={"flair": files["flair"]})
    assert alone.status_code == 200
    assert alone.content != both.content
    assert alone.content == server.post(files["flair"], model="three").content


def test_zip_of_slices_is_one_scan_and_its_masks_have_the_slices_names(server: Server) -> None:
    slices = {f"patient/s_{index}.tif": picture(index) for index in (2, 10, 1)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, pixels in slices.items():
            archive.writestr(name, encoded(pixels))
        archive.writestr("patient/s_1_mask.tif", encoded(picture(9)))
        archive.writestr("__MACOSX/patient/._s_1.tif", b"junk")
    response = server.post(buffer.getvalue())
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as masks:
        assert masks.namelist() == ["s_1_mask.tif", "s_2_mask.tif", "s_10_mask.tif"]
        for name, pixels in slices.items():
            mask = decoded(masks.read(f"{Path(name).stem}_mask.tif"))
            np.testing.assert_array_equal(mask, truth(pixels))
    one = server.post(buffer.getvalue(), accept="image/tiff")
    assert Image.open(io.BytesIO(one.content)).n_frames == 3


def test_measures_overlay_and_largest_component(server: Server) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[4:8, 4:8] = 200
    pixels[20:40, 20:40] = 200
    body = encoded(pixels)
    figures = server.post(body, accept="application/json").json()
    assert figures["shape"] == [1, 64, 64]
    assert figures["notes"] == []
    (said,) = server.post(encoded(pixels[..., 0]), accept="application/json").json()["notes"]
    assert said.startswith("its one channel stands in for all 3 of the model")
    tumour = figures["classes"]["tumour"]
    assert (tumour["pixels"], tumour["components"], tumour["largest_component_pixels"]) == (416, 2, 400)
    largest = server.post(body, accept="application/json", largest_component="true").json()
    assert largest["classes"]["tumour"]["pixels"] == 400
    overlay = decoded(server.post(body, accept="image/png").content)
    assert overlay.ndim == 3
    assert (overlay[..., 0] > overlay[..., 1].astype(int) + 50).any(), "no red in the overlay"


def test_volumes_are_in_millilitres(server: Server, tmp_path: Path) -> None:
    nibabel.save(nifti(), tmp_path / "scan.nii.gz")
    figures = server.post((tmp_path / "scan.nii.gz").read_bytes(), model="four", answer="measures").json()
    assert figures["spacing_mm"] == [3.0, 1.5, 1.5]
    for one in figures["classes"].values():
        assert one["ml"] == pytest.approx(one["pixels"] * 3 * 1.5 * 1.5 / 1000, abs=1e-4)


def test_events_tell_the_progress_and_end_with_the_result(server: Server, tmp_path: Path) -> None:
    import base64
    import zlib

    image = nifti((32, 24, 40))
    nibabel.save(image, tmp_path / "scan.nii.gz")
    body = (tmp_path / "scan.nii.gz").read_bytes()
    events = events_of(server.post(body, model="four", accept="text/event-stream", pixels="true").text)
    names = [name for name, _ in events]
    assert names[0] == "scan"
    assert names[-1] == "result"
    assert {"pixels", "progress"} < set(names)
    described, result = events[0][1], events[-1][1]
    assert described["shape"] == result["shape"] == [40, 24, 32]
    done = [data["done"] for name, data in events if name == "progress"]
    assert done == sorted(done)
    assert done[-1] == 40

    def unpacked(data: object, dtype: str) -> np.ndarray:
        return np.frombuffer(zlib.decompress(base64.b64decode(str(data))), dtype)

    pixels = np.concatenate([unpacked(data["data"], "<u2") for name, data in events if name == "pixels"])
    scan = read_scan(tmp_path / "scan.nii.gz")
    restored = pixels.reshape(40, 24, 32) * float(str(described["slope"])) + float(str(described["intercept"]))
    np.testing.assert_allclose(restored, scan.pixels[..., 0], atol=0.02)
    mask = unpacked(result["mask"], "u1").reshape(40, 24, 32)
    own = server.post(body, model="four").content
    (tmp_path / "mask.nii.gz").write_bytes(own)
    assert scan.nifti is not None
    np.testing.assert_array_equal(scan.nifti.to_file(mask), np.asarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj))
    file = result["file"]
    assert isinstance(file, dict)
    assert base64.b64decode(file["data"]) == own


def test_events_of_a_broken_file_have_its_status(server: Server) -> None:
    response = server.post(b"II*\0 and no more", accept="text/event-stream")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "options", "status", "words"),
    [
        (b"", {}, 400, "no scan"),
        (b"root:x:0:0:root", {}, 415, "not an image"),
        (encoded(picture())[:300], {}, 400, "damaged"),
        (encoded(picture()), {"model": "nine"}, 404, "there is: three, four"),
        (encoded(picture()), {"model": "../../etc/passwd"}, 404, "no such model"),
        (encoded(picture()), {"version": "7"}, 404, "version"),
        (encoded(picture()), {"colour": "red"}, 400, "query"),
        (encoded(picture()), {"pixels": "perhaps"}, 400, "pixels"),
        (encoded(picture()), {"accept": "text/html"}, 406, "Accept"),
        (encoded(picture()), {"accept": "application/gzip"}, 406, "NIfTI"),
        (encoded(picture()), {"model": "four"}, 422, "channels"),
        (b"\x1f\x8b" + bytes(100), {}, 415, ""),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(
    server: Server, body: bytes, options: dict[str, str], status: int, words: str
) -> None:
    response = server.post(body, **options)
    assert response.status_code == status, response.text
    told = response.json()["error"]
    assert words in told
    assert "\n" not in told
    assert "/tmp" not in told
    assert "segkit-serve" not in told


def test_curl_gets_a_mask_as_the_documentation_says(server: Server, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    pixels = picture(3)
    (tmp_path / "scan.tif").write_bytes(encoded(pixels))
    url = f"{server.url}segment"
    subprocess.run(["curl", "-fsS", "--data-binary", "@scan.tif", "-o", "mask.tif", url], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(decoded((tmp_path / "mask.tif").read_bytes()), truth(pixels))
    form = ["curl", "-fsS", "-F", "scan=@scan.tif", "-H", "Accept: application/json", url]
    figures = json.loads(subprocess.run(form, cwd=tmp_path, check=True, capture_output=True).stdout)
    assert figures["classes"]["tumour"]["pixels"] == np.count_nonzero(truth(pixels))


def test_a_real_slice_and_a_real_volume(server: Server, shared: Path) -> None:
    volume = next((shared / "hippocampus" / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))
    response = server.post(volume.read_bytes(), model="four")
    assert response.status_code == 200, response.text
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(response.content))
    original = nibabel.load(volume)
    assert mask.shape == original.shape
    np.testing.assert_array_equal(mask.affine, original.affine)


def test_the_log_has_the_costs_and_no_names_or_contents(server: Server) -> None:
    name = "Smith_John_1950"
    body = encoded(picture(5))
    httpx.post(f"{server.url}segment", files={"scan": (f"{name}.tif", body)})
    httpx.get(f"{server.url}{name}.tif?{name}")
    lines = server.log()
    last = [line for line in lines if line["route"] == "/segment"][-1]
    assert last["status"] == 200
    assert last["model"] == "three"
    assert last["slices"] == 1
    assert last["format"] == "tiff"
    assert last["received"] > len(body)
    assert {"time", "id", "ms", "queue_ms", "compute_ms", "sent"} <= set(last)
    assert name not in (server.folder / "out").read_text() + server.errors()


def test_pytorch_is_not_loaded(server: Server) -> None:
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    server.post(encoded(picture()))
    assert "libtorch" not in maps.read_text()
