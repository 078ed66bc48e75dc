"""The comparison as files: a page, Markdown with pictures, a table for other programs."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg

from segkit.bench.comparison import Comparison
from segkit.bench.report import Picture, Section, sections, title
from segkit.bench.rows import Row
from segkit.files import atomic_path, write_text
from segkit.profiling.report import blocks, markdown, svg
from segkit.profiling.report.colours import light
from segkit.profiling.report.html_page import page
from segkit.profiling.report.markup import Markup, el, joined
from segkit.profiling.report.text import aligned, wrapped

PNG_DPI = 160
_NESTED = ("settings", "machine", "parts", "accuracy")


def write_report(comparison: Comparison, folder: Path, formats: tuple[str, ...]) -> list[Path]:
    """Write the report in each of the formats; the files."""
    found = sections(comparison)
    written = []
    if "html" in formats:
        written.append(folder / "comparison.html")
        write_text(written[-1], to_html(title(comparison), found))
    if "csv" in formats:
        written.append(folder / "comparison.csv")
        write_text(written[-1], to_csv(comparison))
    if "png" in formats:
        pictures = [picture for section in found for picture in section.pictures]
        written += [_png(picture, folder / f"comparison-{picture.name}.png") for picture in pictures]
    if "markdown" in formats:
        written.append(folder / "comparison.md")
        write_text(written[-1], to_markdown(title(comparison), found, pictures="png" in formats))
    return written


def to_html(heading: str, found: list[Section]) -> str:
    """One page that needs nothing else."""
    charts = blocks.Charts()
    with svg.style():
        body = joined(el("h1", heading), [_html(section, charts) for section in found])
        return page(heading, body)


def _html(section: Section, charts: blocks.Charts) -> Markup:
    pictures = [charts(p.draw(), p.title, [p.caption] if p.caption else []) for p in section.pictures]
    return el(
        "section",
        el("h2", section.title),
        [el("p", blocks.prose(said)) for said in section.said],
        _html_points(section.points),
        blocks.grid(*pictures),
        [blocks.table(table) for table in section.tables],
    )


def _html_points(points: list[str]) -> Markup | None:
    """Numbered points as paragraphs, what stands under them as lists."""
    parts: list[Markup] = []
    below: list[Markup] = []
    for point in points:
        if point[:1].isdigit():
            parts += [el("ul", below)] if below else []
            below = []
            parts.append(el("p", el("b", point)))
        else:
            below.append(el("li", point))
    return joined(parts, el("ul", below) if below else None) if points else None


def to_markdown(heading: str, found: list[Section], *, pictures: bool) -> str:
    """GitHub-flavoured; with `pictures`, the PNG files beside it are shown."""
    parts = [f"# {markdown.plain(heading)}"]
    for section in found:
        parts += [f"## {markdown.plain(section.title)}", *(markdown.prose(said) for said in section.said)]
        parts += [_markdown_point(point) for point in section.points]
        if pictures:
            parts += [
                f"![{markdown.plain(p.title)}](comparison-{p.name}.png)" + (f"\n\n{p.caption}" if p.caption else "")
                for p in section.pictures
            ]
        parts += [markdown.table(table) for table in section.tables]
    return "\n\n".join(parts) + "\n"


def _markdown_point(point: str) -> str:
    return f"**{markdown.plain(point)}**" if point[:1].isdigit() else f"- {markdown.plain(point)}"


def to_text(heading: str, found: list[Section]) -> str:
    """For a terminal; the pictures are left out."""
    lines = [heading]
    for section in found:
        lines += ["", section.title, "-" * len(section.title), *(wrapped(said) for said in section.said)]
        lines += [wrapped(p if p[:1].isdigit() else f"- {p}", "" if p[:1].isdigit() else "  ") for p in section.points]
        for table in section.tables:
            lines += ["", aligned(table), *([wrapped(table.note)] if table.note else [])]
    return "\n".join(lines) + "\n"


def to_csv(comparison: Comparison) -> str:
    """One line a measurement; settings, parts of a step and test figures in columns of their own."""
    plain = [f.name for f in fields(Row) if f.name not in _NESTED]
    settings = list(dict.fromkeys(key for row in comparison.rows for key in row.settings))
    parts = list(dict.fromkeys(key for row in comparison.rows for key in row.parts))
    figures = list(dict.fromkeys(key for row in comparison.rows for key in row.accuracy))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(f"setting_{k}" for k in settings), *plain, *(f"step_{k}_s" for k in parts), *figures])
    for row in comparison.rows:
        values = [row.settings.get(key) for key in settings] + [getattr(row, name) for name in plain]
        values += [row.parts.get(key) for key in parts] + [row.accuracy.get(key, [None])[0] for key in figures]
        writer.writerow(["" if value is None else value for value in values])
    return out.getvalue()


def _png(picture: Picture, path: Path) -> Path:
    with svg.style():
        drawing = picture.draw()
        drawing.suptitle(picture.title, x=0.02, y=1.03, ha="left", va="bottom", fontsize=12)
        drawing.set_facecolor(light("card"))
        FigureCanvasAgg(drawing)
        with atomic_path(path) as temporary:
            drawing.savefig(temporary, format="png", dpi=PNG_DPI, bbox_inches="tight", pad_inches=0.12)
    return path
