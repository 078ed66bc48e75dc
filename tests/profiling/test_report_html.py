"""The page: whole, alone, escaped, and with the summary's figures in it."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from segkit.profiling.report.colours import label
from segkit.profiling.report.html_page import to_html
from segkit.profiling.summary import RunSummary
from tests.conftest import clean_environment
from tests.profiling import summaries as made

VOID = {"meta", "br", "hr", "img", "input", "link"}
ALLOWED = {"html", "head", "meta", "title", "style", "body", "main", "section", "h1", "h2", "h3", "h4", "p", "div"}
ALLOWED |= {"dl", "dt", "dd", "ul", "ol", "li", "span", "code", "details", "summary", "figure", "figcaption", "table"}
ALLOWED |= {
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "svg",
    "defs",
    "pattern",
    "rect",
    "g",
    "path",
    "use",
    "text",
    "clippath",
}
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """Elements in order, table rows, text; complains of what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.open and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row[0] == first)


def drawings(html: str) -> list[ElementTree.Element]:
    """The charts, each parsed as XML."""
    return [ElementTree.fromstring(text) for text in re.findall(r'<svg[^>]*role="img".*?</svg>', html, re.DOTALL)]


def drawing(html: str, title: str) -> ElementTree.Element:
    return next(each for each in drawings(html) if (each.get("aria-label") or "").startswith(title))


@functools.cache
def html_of(make: Callable[[], RunSummary]) -> str:
    """The page of one run; made once for all tests."""
    return to_html([make()])


@functools.cache
def html_of_three() -> str:
    return to_html([made.gpu_run(), made.profiled_run(), made.cpu_run()])


@pytest.fixture(params=made.ALL, ids=lambda make: make.__name__)
def html(request: pytest.FixtureRequest) -> str:
    return html_of(request.param)


def test_every_page_is_whole_and_stands_alone(html: str) -> None:
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert len(html.encode()) < 1_000_000
    assert {tag for tag, _ in page.elements} <= ALLOWED
    attributes = [(name, value or "") for _, given in page.elements for name, value in given.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name in ("src", "srcset", "action")]
    assert all(value.startswith("#") for name, value in attributes if name in ("href", "xlink:href"))
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert "@import" not in style.group(1)
    assert re.findall(r"url\((?!#)", html) == []
    assert {value for name, value in attributes if "://" in value and name == "xmlns"} <= {SVG[1:-1]}


def test_ids_are_unique_and_references_lead_somewhere() -> None:
    html = html_of_three()
    ids = re.findall(r'\sid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r"url\(#([^)]*)\)", html)) | set(re.findall(r'href="#([^"]*)"', html))
    assert referred <= set(ids)


def test_no_figure_is_none_or_nan(html: str) -> None:
    page = Page(html)
    said = page.text + " ".join("".join(each.itertext()) for each in drawings(html))
    assert not re.search(r"\b(None|nan|inf)\b", said)
    assert not re.search(r"\b(nan|inf)\b", " ".join(re.findall(r' d="([^"]*)"', html)))


def test_drawings_are_xml_with_the_pages_colours_and_font(html: str) -> None:
    found = drawings(html)
    assert found
    for each in found:
        raw = ElementTree.tostring(each, encoding="unicode")
        assert each.get("viewBox")
        assert each.get("width") is None
        # Every colour is one of the page's variables, so that the dark page has dark charts.
        assert (
            re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\(--\w+, #[0-9a-f]{6}\)", "", re.sub(r">[^<]*<", "><", raw)))
            == []
        )
        assert "DejaVu" not in raw


def test_hostile_names_stay_text() -> None:
    html = html_of(made.hostile_run)
    assert "<script" not in html
    page = Page(html)
    shown = " ".join(made.HOSTILE.split())
    assert " ".join(page.text.split()).count(shown) > 10
    charts = " ".join("".join(each.itertext()) for each in drawings(html))
    assert "alert('x')" in charts  # as letters, and not as mathematics
    assert "`**$x_1$**`" in charts


def test_the_verdict_comes_first_with_its_advice() -> None:
    summary = made.gpu_run()
    assert summary.verdict is not None
    page = Page(html_of(made.gpu_run))
    places = [
        page.text.index(said) for said in (summary.verdict.title, summary.verdict.sentence, *summary.verdict.advice)
    ]
    assert places == sorted(places)
    assert places[-1] < page.text.index("Where the time went")
    assert summary.verdict.sure in page.text
    assert "No verdict" in Page(html_of(made.cpu_run)).text


def test_the_figures_are_the_summarys() -> None:
    summary = made.gpu_run()
    page = Page(html_of(made.gpu_run))
    for part, seconds in summary.parts.items():
        row = page.row(label(part))
        assert row[1] == f"{100 * seconds / summary.seconds:.1f} %"
        assert float(row[3].split()[0]) == pytest.approx(1000 * seconds / summary.steps, rel=0.01)
    straggler = next(row for row in page.rows if row[:2] == ["2", "node2"])
    assert straggler[2:4] == ["225 ms", "121 ms"]
    assert straggler[-2:] == ["84.3 ms", "95.0 %"]
    assert page.row("0 NVIDIA H100 80GB HBM3")[1:5] == ["72.0 %", "50.4 %", "21.6 %", "32.4 %"]
    for said in ("1.00 kWh", "1.09 Wh", "569 [562, 575]", "7,200", "921,600", "PCIe rates"):
        assert said in page.text
    assert summary.straggler is not None
    assert summary.straggler.sentence in page.text
    epoch = summary.epochs[4]
    assert page.row("5")[3] == f"{100 * epoch.shares['compute']:.1f} %"


def test_the_bars_are_as_long_as_the_shares() -> None:
    """Read back from the drawing: the rectangles of the whole run, in units of the drawing."""
    summary = made.gpu_run()
    chart = drawing(html_of(made.gpu_run), "The time by part")
    lengths: dict[str, list[float]] = {}
    ends: list[tuple[float, float]] = []
    for path in chart.iter(f"{SVG}path"):
        style = path.get("style") or ""
        part = re.search(r"fill: (?:url\(#hatch-\w+\) )?var\(--(\w+),", style)
        if part and part.group(1) in summary.parts:
            xs = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path.get("d") or "")]
            lengths.setdefault(part.group(1), []).append(max(xs) - min(xs))
            ends.append((min(xs), max(xs)))
    whole = {part: found[0] for part, found in lengths.items()}
    for part, seconds in summary.parts.items():
        assert whole[part] / sum(whole.values()) == pytest.approx(seconds / summary.seconds, abs=0.002), part
    assert sum(whole.values()) == pytest.approx(360 - 34, abs=0.5)
    run = ends[: len(summary.parts)]  # one after another, from edge to edge
    assert [end for _, end in run[:-1]] == pytest.approx([begin for begin, _ in run[1:]], abs=0.02)


def test_lines_are_short_however_long_the_run() -> None:
    for chart in drawings(html_of(made.long_run)):
        points = [len(re.findall("[ML]", path.get("d") or "")) for path in chart.iter(f"{SVG}path")]
        assert max(points) <= 1200  # a band goes there and back; a line has 600 points at most


def test_epochs_are_marked_and_none_is_without_a_number_for_want_of_many() -> None:
    few = drawing(html_of(made.cpu_run), "CPUs used")
    texts = ["".join(text.itertext()) for text in few.iter(f"{SVG}text")]
    assert texts.count("epoch 1") == 1
    assert {"2", "3", "4", "5", "6"} <= set(texts)
    many = drawing(html_of(made.long_run), "GPU util")
    numbers = ["".join(text.itertext()) for text in many.iter(f"{SVG}text")]
    assert {"20", "100", "180"} <= set(numbers)


def test_samples_from_before_the_first_step_lie_within_the_chart() -> None:
    """The sampler begins before the training does; the run's first step is then not at 0."""
    run = made.cpu_run()
    early = replace(run.hosts[0], series={"t": [made.START - 10.0 + i for i in range(104)], "read": [1e6] * 104})
    chart = drawing(to_html([replace(run, hosts=[early])]), "Read from")
    (line,) = [p for p in chart.iter(f"{SVG}path") if "stroke: var(--first" in (p.get("style") or "")]
    xs = [float(x) for x in re.findall(r"[ML] (-?[\d.]+) ", line.get("d") or "")]
    assert min(xs) == pytest.approx(46)  # the left margin
    assert max(xs) <= 350.01


def test_points_of_the_worker_curve_are_hollow_where_predicted() -> None:
    summary = made.profiled_run()
    assert summary.differential is not None
    html = html_of(made.profiled_run)
    chart = drawing(html, "Rate by worker")
    uses = [use.get("style") or "" for use in chart.iter(f"{SVG}use")]
    hollow = [style for style in uses if "fill: var(--card" in style and "stroke: var(--line" not in style]
    assert len(hollow) == sum(point.predicted is not None for point in summary.differential.curve)
    assert ["".join(text.itertext()) for text in chart.iter(f"{SVG}text")].count("chosen") == 1
    page = Page(html)
    assert page.row("prep stall")[1] == "29.6 % [28.1 %, 31.1 %]"
    assert ["files", "12", "566 [549, 583]", "575", "chosen"] in page.rows
    assert ["files", "16", "not run", "590", ""] in page.rows
    assert "the prediction holds" in page.text
    assert summary.differential.stalls.notes[0] in page.text


def test_what_was_not_measured_has_no_chart_and_a_reason() -> None:
    html = html_of(made.cpu_run)
    titles = {each.get("aria-label") for each in drawings(html)}
    assert titles == {"The time by part", "Stall share by epoch", "CPUs used on a node", "Read from storage"}
    page = Page(html)
    assert page.row("GPU energy") == ["GPU energy", "the driver's library libnvidia-ml.so.1 was not found"]
    assert "kWh" not in page.text


def test_several_runs_begin_with_their_comparison() -> None:
    runs = [made.gpu_run(), made.profiled_run(), made.cpu_run()]
    page = Page(html_of_three())
    rows = [page.row(run.name) for run in runs]
    assert rows[0][1:4] == ["569 [562, 575]", "–", "21.0 %"]
    assert rows[2][1:5] == ["22.4 [21.8, 23.0]", "× 0.04", "29.0 %", "–"]
    assert page.row("workers")[1:] == ["6", "6", "0"]
    assert page.text.index("runs side by side") < page.text.index("Where the time went")
    assert "intervals overlap" in page.text


def test_runs_of_one_name_are_told_apart() -> None:
    page = Page(to_html([made.cpu_run(), replace(made.cpu_run(), images_per_s=None)]))
    assert page.row("segnet-laptop (1)")[1] == "22.4 [21.8, 23.0]"
    assert page.row("segnet-laptop (2)")[1] == "–"


@pytest.mark.parametrize("module", ["text", "markdown", "json_text", "trace"])
def test_matplotlib_is_for_the_page_alone(module: str, check: Callable[[str], None]) -> None:
    check(f"import segkit.profiling.report.{module}, sys; assert 'matplotlib' not in sys.modules")


@pytest.fixture
def check() -> Callable[[str], None]:
    """Run a line of Python in a process of its own."""

    def run(code: str) -> None:
        done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run
