"""The terminal's table, Markdown and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
from markdown_it import MarkdownIt

from segkit.profiling.report.json_text import to_json
from segkit.profiling.report.markdown import to_markdown
from segkit.profiling.report.tables import Table
from segkit.profiling.report.text import aligned, to_text
from segkit.profiling.summary import RunSummary, Verdict
from tests.profiling import summaries as made


@pytest.fixture(params=made.ALL, ids=lambda make: make.__name__)
def summary(request: pytest.FixtureRequest) -> RunSummary:
    found: RunSummary = request.param()
    return found


def rendered(markdown: str) -> str:
    """By another library, with raw HTML shown as text."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table"]).render(markdown)


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_the_terminals_table_fits_and_is_plain(summary: RunSummary) -> None:
    for text in (to_text([summary]), to_text([summary, made.cpu_run(), summary])):
        assert max(len(line) for line in text.splitlines()) <= 100
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]|\b(None|nan)\b", text)
    assert "\x1b[1m" in to_text([summary], bold=True)


def test_the_terminals_table_says_what_the_summary_says() -> None:
    text = to_text([made.gpu_run()])
    assert text.index("The loader bounds this job") < text.index("images/s")
    assert re.search(r"waiting for the loader +21\.0 % +6 min 24 s +53\.4 ms +█{6}\n", text)
    assert re.search(r"\n +2 +node2 .* 84\.3 ms +95\.0 %\n", text)
    assert "GPU energy" in text
    assert "missing: PCIe rates: the driver" in text
    profiled = to_text([made.profiled_run()])
    assert "prep stall" in profiled
    assert "the prediction holds" in re.sub(r"\s+", " ", profiled)


def test_a_run_that_was_not_timed_shows_no_zeros() -> None:
    text = to_text([made.sampled_only()])
    assert "GPU utilisation" in text
    assert not re.search(r"^ *(steps|images|wall-clock|waited)", text, re.MULTILINE)
    assert not re.search(r"(?<![\d.])0(\.0)? (s|ms|%|Wh|images)", text)


def test_several_runs_begin_with_verdicts_and_a_table() -> None:
    text = to_text([made.gpu_run(), made.profiled_run(), made.cpu_run()])
    first = text.split("\n\n")[0]
    assert "unet-20260528-101500: The loader bounds this job\nprofile-unet: Decoding bounds this job" in first
    table = text.split("\n\n")[1]
    assert re.search(r"\n  segnet-laptop +22\.4 \[21\.8, 23\.0\] +× 0\.04 +29\.0 % +– ", table)
    assert "…" not in table


def test_the_worst_ranks_are_shown_of_many() -> None:
    run = made.gpu_run()
    many = [replace(run.ranks[2 if i == 77 else 0], rank=i) for i in range(128)]
    text = to_text([replace(run, ranks=many)])
    assert re.search(r"\n +77 ", text)
    assert "The 8 most costly of 128 ranks." in text
    assert len(text.splitlines()) < 60


def test_markdown_tables_have_equal_columns(summary: RunSummary) -> None:
    for text in (to_markdown([summary]), to_markdown([summary, made.cpu_run()])):
        tables = re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE)
        assert len(tables) >= 2
        for table in tables:
            assert len({len(cells(line)) for line in table.splitlines()}) == 1, table
        assert rendered(text).count("<table>") == len(tables)
        assert set(re.findall(r"(?<!\\)<[^>]*>", text)) <= {"<details>", "</details>", "<summary>", "</summary>"}
        assert not re.search(r"\b(None|nan)\b", text)


def test_markdown_from_outside_is_text() -> None:
    text = to_markdown([made.hostile_run(), made.gpu_run()])
    html = rendered(text)
    assert "<script" not in html
    assert "<a " not in html
    assert "<strong>$" not in html
    assert "@all" not in html
    assert "&lt;script&gt;alert('x')&lt;/script&gt;" in html


def test_markdown_keeps_commands_as_code() -> None:
    said = "Fairly sure: `segkit profile --loader files` measures *it* and node_1_a"
    verdict = Verdict("loader", "Title", "Sentence.", ["Do `a | b`."], said)
    html = rendered(to_markdown([replace(made.gpu_run(), verdict=verdict)]))
    assert "<code>segkit profile --loader files</code> measures *it* and node_1_a" in html
    assert "<li>Do <code>a | b</code>.</li>" in html


def test_markdown_says_the_verdict_first() -> None:
    text = to_markdown([made.gpu_run()])
    assert text.splitlines()[2] == "**The loader bounds this job**"
    assert "| waiting for the loader | 21.0 % |" in text


@pytest.mark.parametrize("make", [make for make in made.ALL if make is not made.long_run])
def test_json_is_the_summary(make: Callable[[], RunSummary]) -> None:
    summary = make()
    text = to_json([summary])
    assert "NaN" not in text
    assert "Infinity" not in text
    back = json.loads(text)
    expected = json.loads(json.dumps(asdict(summary)).replace("NaN", "null"))
    assert back == expected


def test_json_has_a_series_on_one_line_and_leaves_strings_alone() -> None:
    text = to_json([replace(made.cpu_run(), name="[1,   2]")])
    assert json.loads(text)["name"] == "[1,   2]"
    assert len(text.splitlines()) < 400
    assert re.search(r'"read": \[2000000\.0, 2000000\.0, ', text)


def test_json_of_several_runs_is_a_list() -> None:
    back = json.loads(to_json([made.gpu_run(), made.cpu_run()]))
    assert [run["name"] for run in back] == ["unet-20260528-101500", "segnet-laptop"]


def test_json_has_null_for_what_is_no_number() -> None:
    assert json.loads(to_json([made.sampled_only()]))["energy"] == {"kwh": 0.4, "wh_per_1000_images": None}


def test_a_wide_table_of_figures_alone_is_not_cut() -> None:
    figures = ["123456789" * 2] * 8
    assert aligned(Table(figures, "r" * 8, [figures])).split() == figures * 2


def test_a_table_too_wide_keeps_its_heads_whole() -> None:
    table = Table(["precision", *["milliseconds"] * 8], "l" + "r" * 8, [["fp32", *["1"] * 8]])
    assert aligned(table).split()[0] == "precision"
