"""The page in a real Chromium: no errors, no request, no sideways scrolling on a phone, dark charts in the dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segkit.profiling.report.html_page import to_html
from tests.profiling import summaries as made

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
PAGES = {
    "gpu": [made.gpu_run],
    "profiled": [made.profiled_run],
    "hostile": [made.hostile_run],
    "several": [made.gpu_run, made.cpu_run, made.one_step_run],
}
SMALLEST_LETTER = """() => Math.min(...[...document.querySelectorAll('figure svg text')].map(text => {
    const svg = text.ownerSVGElement;
    return parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
}))"""
TEXT_OUTSIDE = """() => [...document.querySelectorAll('figure svg text')].filter(text => {
    const own = text.getBoundingClientRect(), card = text.closest('figure').getBoundingClientRect();
    return own.left < card.left - 1 || own.right > card.right + 1;
}).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, makers in PAGES.items():
        (folder / f"{name}.html").write_text(to_html([make() for make in makers]), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Any, file: Path, width: int, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page, and what it complained of or asked for."""
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(file.as_uri())
    return page, [text for text in seen if text != file.as_uri()]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_quiet_and_fits(name: str, width: int, files: dict[str, Path], browser: Any) -> None:
    page, seen = opened(browser, files[name], width)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert seen == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SMALLEST_LETTER) >= 9
    assert page.evaluate(TEXT_OUTSIDE) == []
    page.close()


def test_charts_are_dark_in_the_dark(files: dict[str, Path], browser: Any) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page, _ = opened(browser, files["gpu"], 800, scheme)
        letters = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
        card = page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor")
        colours.append([sum(int(part) for part in text[4:-1].split(",")) for text in (letters, card)])
        page.close()
    (light_letters, light_card), (dark_letters, dark_card) = colours
    assert light_card - light_letters > 400
    assert dark_letters - dark_card > 400


def test_paper_is_white_even_where_the_screen_is_dark(files: dict[str, Path], browser: Any) -> None:
    page, _ = opened(browser, files["gpu"], 800, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 33, 38)"
    page.close()
