from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_series import write_series
from PIL import Image

from segkit.errors import SegkitError
from segkit.inference.jobs import check_targets, plan_channels, plan_scans


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    slices = "p1/s_1.tif p1/s_1_mask.tif p1/s_2.tif p1/s_10.tif p2/s_1.png x.tif x.png"
    volumes = "v/a.nii v/b.nii.gz v/a_mask.nii.gz v/c.hdr v/c.img"
    for name in (*slices.split(), *volumes.split(), "mixed/a.tif", "mixed/b.nii", "none/readme.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 100_000)
    return tmp_path


def masks(*arguments: str, output: str | None = None) -> list[str]:
    plan = plan_scans(arguments, Path(output) if output else None)
    assert not plan.failures
    return [job.mask.as_posix() for job in plan.jobs]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x.tif"], ["x_mask.tif"]),
        (["x.png"], ["x_mask.png"]),
        (["p1"], ["p1_mask.tif"]),
        (["p1/*.tif"], ["p1/s_1_mask.tif", "p1/s_2_mask.tif", "p1/s_10_mask.tif"]),
        (["v"], ["v/a_mask.nii.gz", "v/b_mask.nii.gz", "v/c_mask.nii.gz"]),
        (["p?"], ["p1_mask.tif", "p2_mask.tif"]),
        (["p1/s_1_mask.tif"], ["p1/s_1_mask_mask.tif"]),  # alone it is meant
        (["p1/s_1_mask.tif", "x.tif", "x.tif"], ["x_mask.tif"]),
    ],
)
def test_what_is_meant_and_where_its_mask_goes(folder: Path, arguments: list[str], expected: list[str]) -> None:
    assert masks(*arguments) == expected


def test_a_folder_of_patients(folder: Path) -> None:
    (folder / "mixed/b.nii").unlink()
    assert masks(".")[0] == "x_mask.tif" or Path(masks(".")[0]).name == f"{folder.name}_mask.tif"
    for name in ("x.tif", "x.png"):
        (folder / name).unlink()
    assert masks(".") == ["mixed_mask.tif", "p1_mask.tif", "p2_mask.tif"] + [f"v/{name}_mask.nii.gz" for name in "abc"]


def test_output_is_a_file_or_a_directory(folder: Path) -> None:
    assert masks("x.tif", output="y.tif") == ["y.tif"]
    assert masks("x.tif", output="new") == ["new/x_mask.tif"]
    assert masks("x.tif", "p1/s_2.tif", output="new") == ["new/x_mask.tif", "new/s_2_mask.tif"]
    with pytest.raises(SegkitError, match="directory"):
        plan_scans(["x.tif", "p1/s_2.tif"], Path("y.tif"))


@pytest.mark.parametrize(
    ("argument", "reason"),
    [("none", "holds no scans"), ("mixed", "holds both"), ("*.nii", "matches no scan")],
)
def test_what_cannot_be_meant(folder: Path, argument: str, reason: str) -> None:
    plan = plan_scans([argument, "x.tif"], None)
    assert reason in str(plan.failures[0])
    assert len(plan.jobs) == 1


def test_left_out_masks_are_mentioned(folder: Path) -> None:
    assert "1 files" in plan_scans(["p1/s_1.tif", "p1/s_1_mask.tif"], None).notes[0]


def test_nothing_is_overwritten(folder: Path) -> None:
    def check(*arguments: str, output: str | None = None, force: bool = False) -> None:
        plan = plan_scans(arguments, Path(output) if output else None)
        check_targets(plan.jobs, overlay=True, measures=True, force=force)

    check("x.tif")
    with pytest.raises(SegkitError, match=r"s_1_mask\.tif: exists; --force"):
        check("p1/s_1.tif")
    with pytest.raises(SegkitError, match=r"s_1_mask\.tif: exists and was not written by segkit"):
        check("p1/s_1.tif", force=True)
    Image.new("L", (4, 4)).save(folder / "p1/s_1_mask.tif", tiffinfo={305: "segkit"})
    check("p1/s_1.tif", force=True)
    with pytest.raises(SegkitError, match="is a scan of this call"):
        check("x.tif", output="x.tif", force=True)
    with pytest.raises(SegkitError, match=r"x_overlay\.png: would be written for x\.tif and for x\.png"):
        check("x.tif", "x.png", force=True)
    (folder / "x_overlay.png").touch()
    with pytest.raises(SegkitError, match=r"x_overlay\.png: exists"):
        check("x.tif")


def test_flair_stands_in(folder: Path) -> None:
    plan = plan_channels((None, Path("v/a.nii"), Path("v/b.nii.gz")), None)
    assert plan.jobs[0].sources == (Path("v/a.nii"), Path("v/a.nii"), Path("v/b.nii.gz"))
    assert plan.jobs[0].mask == Path("v/a_mask.nii.gz")
    assert len(plan.notes) == 1
    with pytest.raises(SegkitError, match="--flair is missing"):
        plan_channels((Path("v/a.nii"), None, None), None)


def test_the_estimate_follows_the_bytes(folder: Path) -> None:
    assert plan_scans(["x.tif"], None).estimated_slices == 1
    (folder / "x.tif").write_bytes(bytes(2**16 * 80))
    assert plan_scans(["x.tif", "p1"], None).estimated_slices == 83


def test_pictures_beside_dicom_are_a_viewers(tmp_path: Path) -> None:
    write_series(tmp_path / "disc" / "DICOM" / "1", np.zeros((3, 8, 8), np.int16), names="IM{}")
    for name in ("logo.png", "autorun.inf"):
        (tmp_path / "disc" / name).write_bytes(b"x")
    plan = plan_scans([str(tmp_path / "disc")], tmp_path / "out")
    assert (plan.jobs, len(plan.studies)) == ([], 1)
    assert plan.studies[0].mask(7) == tmp_path / "out" / "series-7_mask.nii.gz"
    (tmp_path / "slices").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "slices" / "a.png")
    assert [job.mask.name for job in plan_scans([str(tmp_path / "slices")], None).jobs] == ["slices_mask.tif"]
