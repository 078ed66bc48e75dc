"""`segkit data`: look at a dataset, split it, or write a synthetic one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at a dataset, split it by patient, or write a synthetic one.", no_args_is_help=True)

_Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The dataset's folder.", show_default=False)]
_Seed = Annotated[int, typer.Option(help="Same seed, same result.", min=0)]


@app.command("inspect")
def inspect_(
    directory: _Directory,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Decode everything once: patients, sizes, tumour share, copied channels, unusable files.

    Of DICOM (a folder, a zip archive, a file): the series, and which would be taken for which sequence and why.
    """
    import json

    from segkit.data.inspect import inspect
    from segkit.data.layouts import find_cases
    from segkit.errors import FileError, SegkitError

    try:
        cases = find_cases(directory)
    except SegkitError:
        from segkit.imaging.dicom.files import holds_dicom

        if not holds_dicom(directory):
            raise
        from segkit.imaging.dicom.inspect import inspect_dicom

        found = inspect_dicom(directory)
        print(json.dumps(found.as_json(), indent=2) if json_ else found.as_text())
        return
    report = inspect(cases)
    print(json.dumps(report.as_json(), indent=2) if json_ else report.as_text())
    if not report.slices:
        raise FileError(directory, "has no slice that can be used")


@app.command()
def phantom(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
    patients: Annotated[int, typer.Option(help="Number of patients.")] = 24,
    slices: Annotated[int, typer.Option(help="Slices of each patient.")] = 14,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 128,
    seed: _Seed = 0,
) -> None:
    """Write a synthetic brain MRI set in the LGG layout."""
    from segkit.data.phantom import write_phantom

    write_phantom(directory, patients=patients, slices=slices, size=size, seed=seed)
    print(f"{directory}: {patients} patients of {slices} slices, {size} x {size}, seed {seed}")


@app.command()
def split(
    directory: _Directory,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write it; with --folds one file a fold.")
    ] = Path("split.json"),
    seed: _Seed = 0,
    fractions: Annotated[
        str, typer.Option(help="Shares of train, val and test, with commas between.")
    ] = "0.7,0.15,0.15",
    folds: Annotated[int, typer.Option(help="Write this many cross-validation splits instead of one.", min=0)] = 0,
) -> None:
    """Write a split by patient, stratified by institution, with its SHA-256."""
    from segkit.data.layouts import find_cases
    from segkit.data.split import k_folds, make_split

    shares = _numbers(fractions)
    cases = find_cases(directory).cases
    if folds:
        splits = k_folds(cases, folds, seed=seed)
        files = [output.with_name(f"{output.stem}-fold-{fold}.json") for fold in range(folds)]
    else:
        splits, files = [make_split(cases, fractions=shares, seed=seed)], [output]
    for one, file in zip(splits, files, strict=True):
        one.save(file)
        print(f"{file}: train {len(one.train)}, val {len(one.val)}, test {len(one.test)} patients, {one.sha256}")


def _numbers(text: str) -> tuple[float, ...]:
    from segkit.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError("fractions", text, "three numbers with commas between, such as 0.7,0.15,0.15") from error
