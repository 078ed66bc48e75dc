"""`segkit report`, as typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from segkit.cli.report import report
from segkit.errors import ConfigError, FileError
from segkit.profiling.records import LineFile, PhaseRecord, RankInfo, StepRecord, write_info
from tests.conftest import clean_environment

app = typer.Typer()
app.command()(report)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.output


def make_run(folder: Path, *, steps: int = 60, wait: float = 0.04) -> Path:
    """A run directory whose device waited `wait` seconds of every 0.1 s for the loader."""
    profile = folder / "profile"
    file = LineFile(profile / "steps-rank0.jsonl")
    for i in range(steps):
        file.add(StepRecord(1.78e9 + 0.1 * i, i // 20, i + 1, wait, 0.0, 0.005, 0.09 - wait, None, 0.005, wait, 0.1, 8))
    file.flush()
    phases = LineFile(profile / "phases-rank0.jsonl")
    phases.add(PhaseRecord(1.78e9 + 0.1 * steps, "validate", 2, 0.5))
    phases.flush()
    write_info(profile / "rank0.json", RankInfo(0, 1, "node", "cpu", None, "CPU", 2, 0))
    return folder


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return make_run(tmp_path / "one")


def test_the_page_lies_in_the_run_and_the_table_is_printed(one: Path) -> None:
    said = run(one)
    assert f"written: {one / 'report.html'}" in said
    assert "waiting for the loader" in said
    assert "\x1b" not in said
    page = (one / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    share = 60 * 0.04 / (60 * 0.1 + 0.5)
    assert f"{100 * share:.1f} %" in page
    assert f"{100 * share:.1f} %" in said


def test_the_folder_of_the_records_will_do(one: Path) -> None:
    run(one / "profile", "-o", one / "x.html")
    assert (one / "x.html").exists()


def test_several_runs_lie_in_the_working_directory(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(one, make_run(tmp_path / "two", wait=0.01))
    assert "2 runs side by side" in said
    assert "written: report.html" in said
    assert (tmp_path / "report.html").exists()
    assert not (one / "report.html").exists()


@pytest.mark.parametrize("kind", ["json", "markdown", "text"])
def test_the_rest_goes_to_standard_output_or_a_file(kind: str, one: Path, tmp_path: Path) -> None:
    shown = run(one, "--format", kind)
    assert f"written: {tmp_path / 'file'}" in run(one, "--format", kind, "-o", tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == shown
    assert not (one / "report.html").exists()
    if kind == "json":
        assert json.loads(shown)["steps"] == 60


def test_the_trace_lies_in_the_run(one: Path) -> None:
    said = run(one, "--format", "trace")
    events = json.loads((one / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    assert f"{len(events)} events" in said
    assert sum(event.get("cat") == "step" for event in events) == 60


def test_a_folder_without_records_is_named_before_anything_is_written(one: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="empty: has no profile records; give"):
        run(one, tmp_path / "empty", "-o", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_wrong_values_say_what_is_allowed(one: Path) -> None:
    with pytest.raises(ConfigError, match="html, json, markdown, text, trace"):
        run(one, "--format", "pdf")
    with pytest.raises(ConfigError, match="--open"):
        run(one, "--format", "json", "--open")


def test_open_shows_the_page_in_the_browser(one: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\nprintf '%s' \"$1\" > {tmp_path}/shown\n", encoding="utf-8")
    browser.chmod(0o755)
    code = "import typer; from segkit.cli.report import report; typer.run(report)"
    subprocess.run(
        [sys.executable, "-c", code, str(one), "--open"],
        env={**clean_environment(), "BROWSER": f"{browser} %s", "HOME": os.environ.get("HOME", "/")},
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert (tmp_path / "shown").read_text(encoding="utf-8") == (one / "report.html").resolve().as_uri()
