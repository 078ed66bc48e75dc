"""The page in a real browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import base64
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.serving.conftest import Server, decoded, encoded, picture, serving, truth

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
SHOTS = os.environ.get("SEGKIT_SCREENSHOTS", "")  # a folder to look at them


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no Chromium; on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens the page; fails the test for any error in it, and for any request to elsewhere."""
    wrong: list[str] = []
    contexts = []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: (
                wrong.append(request.url) if not request.url.startswith((server.url, "data:", "blob:")) else None
            ),
        )
        page.goto(server.url)
        page.wait_for_selector("#model option", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def upload(page: Any, path: Path, model: str = "three") -> None:
    page.select_option("#model", label=model)
    page.set_input_files("#file", path)
    sync_api.expect(page.locator("#name")).to_have_text(path.name)
    page.wait_for_selector("#download:not([hidden])")
    page.wait_for_selector("#work", state="hidden")


def shoot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def canvas(page: Any, plane: str = "axial") -> np.ndarray:
    """What a plane shows, `[height, width, 4]`."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    url = page.evaluate(f"() => document.querySelector('canvas[data-plane={plane}]').toDataURL()")
    return decoded(base64.b64decode(url.partition(",")[2]))


def redness(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0].astype(int) - np.maximum(pixels[..., 1], pixels[..., 2]).astype(int)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A bright ball in a dark, noisy volume of 40 x 30 x 20 voxels of 1 x 1 x 2 mm."""
    x, y, z = np.meshgrid(np.arange(40), np.arange(30), np.arange(20), indexing="ij")
    ball = ((x - 10) ** 2 + (y - 20) ** 2 + (2 * (z - 12)) ** 2) < 36
    voxels = np.random.default_rng(0).integers(1, 60, ball.shape) + 900 * ball
    path = tmp_path / "ball.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), np.diag([1.0, 1, 2, 1])), path)
    return path


def test_a_slice_its_mask_and_its_download(page: Callable[..., Any], tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 40, np.uint8)
    pixels[16:32, 8:40] = 200
    path = tmp_path / "slice.tif"
    path.write_bytes(encoded(pixels))
    at = page(viewport={"width": 1100, "height": 700})
    upload(at, path)
    assert at.inner_text("#measures").split() == ["tumour", "Pixels", "512", "Lesion", "1"]
    shown = canvas(at)
    share = (redness(shown) > 30).mean()
    ratio = shown.shape[1] / shown.shape[0]
    assert share == pytest.approx(512 / 4096 / max(ratio, 1 / ratio), rel=0.15), "the mask is drawn where it belongs"
    with at.expect_download() as download:
        at.click("#download")
    assert download.value.suggested_filename == "slice_mask.tif"
    np.testing.assert_array_equal(decoded(Path(download.value.path()).read_bytes()), truth(pixels))
    shoot(at, "slice")


def test_before_after_opacity_and_window(page: Callable[..., Any], tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 100, np.uint8)
    pixels[16:48, 16:48] = 160
    (tmp_path / "slice.png").write_bytes(encoded(pixels, "PNG"))
    at = page()
    upload(at, tmp_path / "slice.png")
    assert (redness(canvas(at)) > 30).any()
    at.click("#before")
    assert not (redness(canvas(at)) > 5).any()
    at.keyboard.press("n")
    at.locator("canvas").focus()
    at.keyboard.press(" ")
    assert at.get_attribute("#after", "aria-pressed") == "true"
    weak = redness(canvas(at))[:, :, None].max()
    for _ in range(12):
        at.keyboard.press("]")
    middle = canvas(at)
    assert (redness(middle) > 100).mean() > (redness(middle) > 30).mean() * 0.9
    assert weak > 0
    at.keyboard.press(" ")
    centre = canvas(at).shape[0] // 2, canvas(at).shape[1] // 2
    plain = canvas(at)[centre][0]
    for _ in range(8):
        at.keyboard.press(".")
    assert canvas(at)[centre][0] < plain, "a higher level is darker"
    at.keyboard.press("a")
    assert canvas(at)[centre][0] == plain


def test_a_volume_in_three_planes(page: Callable[..., Any], volume: Path) -> None:
    at = page(viewport={"width": 1280, "height": 800})
    upload(at, volume, "four")
    assert at.locator("canvas").count() == 3
    for plane in ("axial", "coronal", "sagittal"):
        assert canvas(at, plane)[..., :3].max() > 150, plane
    captions = at.locator(".caption").all_inner_texts()
    assert captions[0] == "Axial 13 / 20", "the slice with the most of the ball"
    at.locator("canvas[data-plane=axial]").focus()
    at.keyboard.press("ArrowDown")
    at.keyboard.press("PageDown")
    sync_api.expect(at.locator(".caption").first).to_have_text("Axial 2 / 20")
    at.locator("canvas[data-plane=coronal]").hover()
    at.mouse.wheel(0, -100)
    assert at.locator(".caption").all_inner_texts()[1] != captions[1]
    assert "ml" in at.inner_text("#measures")
    assert "40 x 30 x 20, 1.00 x 1.00 x 2.00 mm" in at.inner_text("#about")
    shoot(at, "volume")


def test_a_click_moves_the_other_planes(page: Callable[..., Any], volume: Path) -> None:
    at = page(viewport={"width": 1280, "height": 800})
    upload(at, volume, "four")
    box = at.locator("canvas[data-plane=axial]").bounding_box()
    before = at.locator(".caption").all_inner_texts()
    at.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7)
    canvas(at)
    after = at.locator(".caption").all_inner_texts()
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] != before[2]


def test_several_slices_are_one_volume(page: Callable[..., Any], tmp_path: Path) -> None:
    pictures = {f"patient_{index}.tif": picture(index) for index in (1, 2, 10)}
    for name, pixels in pictures.items():
        (tmp_path / name).write_bytes(encoded(pixels))
    at = page()
    at.set_input_files("#file", [tmp_path / name for name in pictures])
    sync_api.expect(at.locator("#name")).to_have_text("patient.zip")
    at.wait_for_selector("#download:not([hidden])")
    assert "64 x 64 x 3" in at.inner_text("#about")
    with at.expect_download() as download:
        at.click("#download")
    assert download.value.suggested_filename == "patient_mask.zip"
    with zipfile.ZipFile(download.value.path()) as masks:
        for name, pixels in pictures.items():
            np.testing.assert_array_equal(decoded(masks.read(name.replace(".tif", "_mask.tif"))), truth(pixels))


def test_a_broken_file_is_told_and_the_page_goes_on(page: Callable[..., Any], tmp_path: Path) -> None:
    at = page()
    (tmp_path / "broken.tif").write_bytes(encoded(picture())[:200])
    at.set_input_files("#file", tmp_path / "broken.tif")
    sync_api.expect(at.locator("#error")).to_contain_text("damaged")
    assert at.is_visible("#empty")
    (tmp_path / "good.tif").write_bytes(encoded(picture()))
    upload(at, tmp_path / "good.tif")
    assert not at.is_visible("#error")


def test_a_file_can_be_dropped(page: Callable[..., Any], tmp_path: Path) -> None:
    at = page()
    content = list(encoded(picture()))
    at.evaluate(
        """(content) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(content)], "dropped.tif"));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        content,
    )
    sync_api.expect(at.locator("#name")).to_have_text("dropped.tif")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(page: Callable[..., Any], volume: Path, scheme: str) -> None:
    at = page(**PHONE, color_scheme=scheme)
    upload(at, volume, "four")
    assert at.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out at the side"
    background = at.evaluate("() => getComputedStyle(document.querySelector('aside')).backgroundColor")
    level = sum(int(part) for part in background.removeprefix("rgb(").rstrip(")").split(","))
    assert (level < 300) == (scheme == "dark")
    for control in ("button:visible", "input[type=range]:visible"):
        for box in (one.bounding_box() for one in at.locator(control).all()):
            assert box["height"] >= 20
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 391
    shoot(at, f"phone-{scheme}")


def test_the_api_is_described(page: Callable[..., Any], server: Server) -> None:
    at = page()
    at.goto(f"{server.url}docs")
    at.wait_for_selector("summary")
    assert "/segment" in at.inner_text("main")
    at.click("summary >> nth=0")
    assert "curl --data-binary" in at.inner_text("main")
    shoot(at, "docs")


def test_a_token_is_asked_for(browser: Any, tmp_path: Path, models: Path) -> None:
    (tmp_path / "tokens").write_text("token-0123456789abcdef\n")
    with serving(tmp_path / "run", "--model", models / "three.onnx", "--token-file", tmp_path / "tokens") as running:
        context = browser.new_context()
        at = context.new_page()
        at.goto(running.url)
        at.fill("#token", "wrong-token-0123456789")
        at.click("#token-form button")
        sync_api.expect(at.locator("#error")).to_contain_text("token")
        at.fill("#token", "token-0123456789abcdef")
        at.click("#token-form button")
        at.wait_for_selector("#model option", state="attached")
        (tmp_path / "slice.tif").write_bytes(encoded(picture()))
        upload(at, tmp_path / "slice.tif")
        context.close()


def test_a_real_slice(page: Callable[..., Any], shared: Path, tmp_path: Path) -> None:
    codecs = pytest.importorskip("imagecodecs")
    with zipfile.ZipFile(shared / "lgg" / "TCGA_DU_7010_19860307.zip") as archive:
        pixels = codecs.jpegxl_decode(archive.read("TCGA_DU_7010_19860307_30.jxl"))
    (tmp_path / "TCGA_30.tif").write_bytes(encoded(pixels))
    at = page(viewport={"width": 1280, "height": 800})
    upload(at, tmp_path / "TCGA_30.tif")
    assert at.inner_text("#about") == "256 x 256; three, version 1"
    assert at.locator("#channel option").all_inner_texts() == ["all, as colours", "red", "green", "blue"]
    colours = canvas(at)[..., :3]
    assert colours.std() > 20
    at.click("#before")
    at.select_option("#channel", label="green")
    grey = canvas(at)[..., :3]
    assert (grey.max(axis=-1) == grey.min(axis=-1)).all()
    shoot(at, "lgg")


def test_a_real_volume(page: Callable[..., Any], shared: Path) -> None:
    volume = next((shared / "hippocampus" / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))
    at = page(color_scheme="dark")
    upload(at, volume, "four")
    assert canvas(at)[..., :3].std() > 10
