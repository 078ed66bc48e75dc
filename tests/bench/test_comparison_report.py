from __future__ import annotations

import csv
import io
from itertools import product
from pathlib import Path

import pytest

from segkit.bench.comparison import Comparison
from segkit.bench.report import sections, title
from segkit.bench.report_files import to_csv, to_html, to_markdown, to_text, write_report
from segkit.bench.study import Study
from tests.bench.made import comparison, row

DICE = {"patient_dice_mean": [0.83, 0.80, 0.86], "pooled_miou": [0.81, 0.79, 0.83]}


@pytest.fixture(scope="module")
def made() -> Comparison:
    study = Study.load(None, {"model": "unet,segnet", "gpus": "1,2", "workers": "0,2"}, {"repeats": 2})
    rows = [
        row(study, {"model": m, "gpus": n, "workers": w}, r, 100.0 * n + w + r, accuracy=DICE, wh_per_1000=1.5)
        for m, n, w, r in product(("unet", "segnet"), (1, 2), (0, 2), (0, 1))
        if (m, n, w) != ("segnet", 2, 2)
    ]
    rows += [row(study, {"model": "segnet", "gpus": 2, "workers": 2}, r, None) for r in (0, 1)]
    return comparison(study, rows)


def test_every_form_says_the_same(made: Comparison) -> None:
    found = sections(made)
    html, text = to_html(title(made), found), to_text(title(made), found)
    for said in (html, to_markdown(title(made), found, pictures=True), text):
        flat = " ".join(said.replace("\\", "").split())
        for word in ("The four findings", "out of memory: 80 GiB", "predicted", "U-Net", "SegNet", "Pareto front"):
            assert word in flat, word
    assert html.count("<svg") >= 1 + 2 + 3 + 3  # patterns, times, trade-offs, scaling
    assert max(map(len, text.splitlines())) <= 170


def test_the_csv_has_a_line_a_measurement(made: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert len(lines) == 16
    assert sum(line["status"] == "failed" for line in lines) == 2
    assert {line["setting_model"] for line in lines} == {"unet", "segnet"}
    assert next(line for line in lines if line["status"] == "done")["pooled_miou"] == "0.81"


def test_the_pictures_are_files_that_the_markdown_shows(made: Comparison, tmp_path: Path) -> None:
    written = write_report(made, tmp_path, ("png", "markdown"))
    pictures = [path for path in written if path.suffix == ".png"]
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert {"comparison-time-unet.png", "comparison-time-segnet.png"} <= {path.name for path in pictures}
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert f"]({path.name})" in text
