"""The evaluation report in its three forms."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from segkit.metrics import ConfusionTable, Summary, summarise
from segkit.training.evaluation_report import to_json, to_markdown, to_text, why_several, worst_first

CONTEXT = {"model": "unet", "split": "test"}


def summary_of(classes: int = 2, distances: bool = True) -> Summary:
    """Patients with a middling, a zero, no and a good Dice, in this order."""
    counts = np.zeros((4, classes, classes), dtype=np.int64)
    counts[:, 0, 0] = 900
    counts[0, 1, 1], counts[0, 0, 1] = 10, 20  # Dice 20 / (10 + 30) = 0.5
    counts[1, 1, 0] = 40  # missed: 0
    counts[3, 1, 1], counts[3, 1, 0] = 90, 20  # Dice 180 / (110 + 90) = 0.9
    table = ConfusionTable.from_patients(
        [(name, counts[i : i + 1]) for i, name in enumerate(("half", "missed", "healthy", "good"))],
        ("background", "tumour", "core")[:classes],
    )
    hd95 = {"half": (3.25,) + (None,) * (classes - 2)} if distances else None
    return summarise(table, hd95=hd95)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


class TestJson:
    def test_is_json_with_null_for_the_undefined(self) -> None:
        text = json.dumps(to_json(summary_of(), CONTEXT), allow_nan=False)
        value = json.loads(text)
        assert value["context"] == CONTEXT
        assert value["figures"]["patient_dice_mean"]["value"] == pytest.approx((0.5 + 0 + 0.9) / 3)
        rows = {row["patient"]: row for row in value["patients"]}
        assert rows["healthy"]["dice"] is None
        assert rows["missed"]["dice"] == 0
        assert rows["missed"]["hd95"] is None
        assert rows["half"]["hd95"] == 3.25
        assert rows["half"]["confusion"] == [[900, 20], [0, 10]]

    def test_a_figure_carries_its_interval_and_meaning(self) -> None:
        summary = summary_of()
        figure = to_json(summary, {})["figures"]["pooled_miou"]
        assert set(figure) == {"label", "value", "low", "high", "meaning", "over", "unit"}
        assert figure["low"] < figure["value"] < figure["high"]
        assert to_json(summary, {})["bootstrap"]["resamples"] == summary.resamples

    def test_figures_can_be_made_again_from_the_stored_counts(self) -> None:
        value = to_json(summary_of(), {})
        pooled = np.sum([row["confusion"] for row in value["patients"]], axis=0)
        dice = 2 * pooled[1, 1] / (pooled[1].sum() + pooled[:, 1].sum())
        assert value["figures"]["pooled_dice"]["value"] == pytest.approx(dice)

    def test_classes(self) -> None:
        background, tumour = to_json(summary_of(), {})["classes"]
        assert (background["name"], tumour["name"]) == ("background", "tumour")
        assert tumour["reference_pixels"] == 160
        assert tumour["figures"]["hd95_mean"]["unit"] == "mm"


class TestMarkdown:
    def test_order_of_the_parts(self) -> None:
        text = to_markdown(summary_of(), CONTEXT)
        places = [text.index(part) for part in ("- model: unet", "| figure |", "| patient |", "## Why one model")]
        assert places == sorted(places)

    def test_patients_from_the_worst_to_the_undefined(self) -> None:
        lines = to_markdown(summary_of(), CONTEXT).splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("| patient |"))
        rows = [cells(line) for line in lines[start + 2 : start + 6]]
        assert [row[0] for row in rows] == ["missed", "half", "good", "healthy"]
        dice = cells(lines[start]).index("Dice")
        assert [row[dice] for row in rows] == ["0.0000", "0.5000", "0.9000", "–"]

    def test_tables_are_rectangular(self) -> None:
        for classes in (2, 3):
            widths: list[int] = []
            for line in to_markdown(summary_of(classes), CONTEXT).splitlines():
                if line.startswith("|"):
                    widths.append(len(cells(line)))
                elif widths:
                    assert len(set(widths)) == 1
                    widths = []

    def test_columns_that_nobody_has_are_left_out(self) -> None:
        assert "HD95" not in to_markdown(summary_of(distances=False), CONTEXT)
        assert "largest component" not in to_markdown(summary_of(), CONTEXT)

    def test_classes_are_listed_where_there_are_several(self) -> None:
        assert "## Classes" not in to_markdown(summary_of(2), CONTEXT)
        lines = to_markdown(summary_of(3), CONTEXT).splitlines()
        core = next(cells(line) for line in lines if line.startswith("| core |"))
        assert core == ["core", "0", "0", "–", "–", "–", "–"]

    def test_names_cannot_break_the_table(self) -> None:
        counts = np.array([[[5, 1], [1, 5]]], dtype=np.int64)
        table = ConfusionTable.from_patients([("a|b\n<script>", counts)], ("background", "tumour"))
        text = to_markdown(summarise(table), {})
        assert "| a\\|b \\<script\\> |" in text

    def test_no_nan_is_printed(self) -> None:
        empty = ConfusionTable.from_patients([("a", np.array([[[9, 0], [0, 0]]]))], ("background", "tumour"))
        for render in (to_markdown, to_text):
            assert "nan" not in render(summarise(empty), {}).lower()


def test_the_paragraph_tells_each_iou_with_its_value_and_meaning() -> None:
    summary = summary_of()
    paragraph = why_several(summary)
    assert "\n" not in paragraph
    told = [figure for figure in summary.figures if figure.meaning in paragraph]
    assert len(told) == 7
    for figure in told:
        assert "IoU" in figure.label
        assert f"({figure.value:.4f})" in paragraph


class TestText:
    def test_one_line_a_figure_and_the_worst_patients(self) -> None:
        summary = summary_of()
        lines = to_text(summary, CONTEXT).splitlines()
        assert lines[:2] == ["model: unet", "split: test"]
        assert len(lines) == 2 + len(summary.figures) + 2
        assert lines[-1] == "lowest Dice: missed 0.0000, half 0.5000, good 0.9000"
        pooled = next(line for line in lines if line.startswith("Dice of tumour, pooled"))
        assert f"{summary.figure('pooled_dice').value:.4f}  [" in pooled

    def test_figures_are_aligned(self) -> None:
        lines = [line for line in to_text(summary_of(), {}).splitlines() if "  [0." in line]
        assert len(lines) > 10
        assert len({line.index("  [0.") for line in lines}) == 1


def test_worst_first_breaks_ties_by_name() -> None:
    rows = summary_of().patients
    assert [row.patient for row in worst_first(reversed(rows))] == ["missed", "half", "good", "healthy"]


def test_neither_metrics_nor_report_imports_heavy_packages() -> None:
    program = (
        "import sys, segkit.metrics, segkit.training.evaluation_report\n"
        "print([name for name in ('torch', 'scipy', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
