"""Write the tables of docs/models.md anew, from the figures in docs/models/*.json and the index of the package.

    python -m benchmarks.lgg.tables        # `benchmarks.lgg.publish` does it, too

Each stands between two comments, `<!-- name -->` and `<!-- /name -->`; the text around them is left alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from segkit.cli.models import installed_row, installed_table
from segkit.files import read_json, write_text
from segkit.inference.catalogue import installed

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "models.md"
MODELS = ("lgg-unet", "lgg-unet-int8", "lgg-fcn", "lgg-segnet")
SHOWN = {
    "pooled_miou": "mIoU, pooled (background and tumour)",
    "pooled_dice": "Dice of tumour, pooled",
    "patient_dice_mean": "volume Dice, mean over patients",
    "patient_dice_median": "volume Dice, median over patients",
}
AIMED_AT = {  # of each net, in any form
    "unet": "0.875; 0.84 / 0.88",
    "fcn": "0.850; 0.80 / 0.85",
    "segnet": "0.845; 0.79 / 0.84",
}
Figures = dict[str, dict[str, Any]]  # of each model, as publish wrote them


def figures(found: Figures) -> str:
    """The main table: in volumes, by slice, and what was aimed at."""
    lines = [_row("", *found), "|---|" + "---|" * len(found)]
    lines.append(_row("patients", *(str(one["context"]["patients"]) for one in found.values())))
    for key, label in SHOWN.items():
        lines.append(_row(label, *(_value(one["figures"][key]) for one in found.values())))
    for key, label in SHOWN.items():
        lines.append(_row(f"by slice: {label}", *(_value(one["by_slice"][key]) for one in found.values())))
    aims = (AIMED_AT[name.split("-")[1]] for name in found)
    lines.append(_row("aimed at, over all 82: mIoU; mean / median Dice", *aims))
    return "\n".join(lines)


def folds(found: Figures) -> str:
    """Each fold by itself, in volumes."""
    lines = [
        "| net of | patients | mIoU, pooled | volume Dice, mean | median | rule |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for one in found.values():
        for fold in one["folds"]:
            values = (f"{fold[key]:.3f}" for key in ("pooled_miou", "patient_dice_mean", "patient_dice_median"))
            lines.append(_row(fold["run"], str(fold["patients"]), *values, fold["volumes"]))
    return "\n".join(lines)


def rules(found: Figures) -> str:
    """What each model does in volumes."""
    return "\n".join(f"- {name}: {one['context']['volumes']}" for name, one in found.items())


def robustness(found: Figures) -> str:
    """What changed slices cost, a table for each model."""
    parts = []
    for name, one in found.items():
        if not (robust := one["robustness"]):
            parts.append(f"**{name}**: not measured.")
            continue
        head = f"**{name}**, {robust['patients']} patients ({', '.join(robust['runs'])})"
        parts.append(f"{head}\n\n{changes(robust['changes'])}")
    return "\n\n".join(parts)


def changes(rows: dict[str, dict[str, Any]]) -> str:
    """Dice after each change, and what is lost: of the cards, too."""
    lines = ["| change | Dice | lost | interval |", "|---|---:|---:|---|"]
    for change, row in rows.items():
        low, high = row["interval"]
        lines.append(_row(change, f"{row['dice']:.4f}", f"{row['lost']:+.4f}", f"[{low:+.4f}, {high:+.4f}]"))
    return "\n".join(lines)


def listing() -> str:
    """What `segkit models` prints of the package, the default first."""
    shown = installed_table([installed_row(model) for model in installed() if model.packaged])
    return "\n".join(f"    {line}" for line in ["$ segkit models", *shown.splitlines()])


def write() -> None:
    """Put every table in its place."""
    found: Figures = {name: read_json(DOCS / "models" / f"{name}.json") for name in MODELS}
    text = PAGE.read_text(encoding="utf-8")
    for name, table in {
        "listing": listing(),
        "figures": figures(found),
        "folds": folds(_once(found)),
        "rules": rules(found),
        "robustness": robustness(_once(found)),
    }.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, table=table: f"{match[1]}\n{table}\n{match[2]}", text)
        if count != 1:
            raise SystemExit(f"{PAGE}: has {count} places for <!-- {name} -->, one is needed")
    write_text(PAGE, text)


def _once(found: Figures) -> Figures:
    """Without those that have the same nets in another form."""
    seen: dict[tuple[str, ...], str] = {}
    for name, one in found.items():
        seen.setdefault(tuple(one["context"]["judged"]), name)
    return {name: found[name] for name in seen.values()}


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _value(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"


if __name__ == "__main__":
    write()
