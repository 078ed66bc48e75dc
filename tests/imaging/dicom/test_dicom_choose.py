from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_series import PATIENT, write_series, write_study

from segkit.errors import SegkitError
from segkit.imaging.dicom.choose import choose, roles_of
from segkit.imaging.dicom.inspect import inspect_dicom
from segkit.imaging.dicom.sequences import classify
from segkit.imaging.dicom.volume import open_studies, read_study

VOXELS = np.random.default_rng(0).integers(0, 1000, (6, 8, 8)).astype(np.int16)
NUMBERS = iter(range(100, 10_000))


def found(folder: Path, description: str, timing: str, **attributes: Any) -> tuple[str, str]:
    home = folder / str(next(NUMBERS))
    write_series(home, VOXELS, description=description, timing=timing, **attributes)
    finding = classify(open_studies([home])[0][0].stacks[0])
    return finding.kind, finding.contrast


@pytest.mark.parametrize(
    ("description", "timing", "expected"),
    [
        ("FLAIR_reg", "flair", ("flair", "")),
        ("AX T2 FLAIR FS", "flair", ("flair", "")),
        ("t2_tirm_tra_dark-fluid_320", "flair", ("flair", "")),
        ("Sag CUBE", "flair", ("flair", "")),  # by timing alone
        ("AX T1 FLAIR", "t1", ("t1", "")),
        ("T1pre_reg", "t1", ("t1", "pre")),
        ("T1 without contrast", "t1", ("t1", "pre")),
        ("t1_se_tra nativ", "t1", ("t1", "pre")),
        ("AX T1 W/O", "t1", ("t1", "pre")),
        ("T1post", "t1", ("t1", "post")),
        ("Ax T1 +C", "t1", ("t1", "post")),
        ("T1 SE POST GAD", "t1", ("t1", "post")),
        ("t1_mprage_sag_KM", "t1", ("t1", "post")),
        ("t1ce", "t1", ("t1", "post")),
        ("3D MPRAGE", "t1", ("t1", "")),
        ("scan 7", "t1", ("t1", "")),
        ("AX T2 FSE", "t2", ("t2", "")),
        ("ep2d_diff_3scan_trace_ADC", "t2", ("", "")),
        ("3 Plane Loc", "t1", ("", "")),
        ("SWI_Images", "t1", ("", "")),
        ("T2 STIR", "t2", ("", "")),
        ("Perfusion_Weighted", "t1", ("", "")),
        ("T1 NO CONTRAST", "t1", ("t1", "pre")),
        ("AX T1 C-", "t1", ("t1", "pre")),
        ("Sag T1 vor KM", "t1", ("t1", "pre")),
        ("T1 sin contraste", "t1", ("t1", "pre")),
        ("T1 SE après injection", "t1", ("t1", "post")),
        ("T1 dopo mdc", "t1", ("t1", "post")),
        ("T1 posterior fossa", "t1", ("t1", "")),
        ("T1 postop", "t1", ("t1", "")),
        ("T1 double dose gad", "t1", ("t1", "post")),
        ("BRAIN W/WO T1", "t1", ("t1", "")),
    ],
)
def test_sequences_by_description_and_timing(tmp_path: Path, description, timing, expected) -> None:
    assert found(tmp_path, description, timing, SpecificCharacterSet="ISO_IR 192") == expected


def test_a_contrast_agent_marks_a_t1_unless_words_say_otherwise(tmp_path: Path) -> None:
    assert found(tmp_path, "Ax T1", "t1", ContrastBolusAgent="10ml multihance") == ("t1", "post")
    assert found(tmp_path, "Ax T1", "t1", ContrastBolusAgent="NONE") == ("t1", "")
    assert found(tmp_path, "Ax T1 pre", "t1", ContrastBolusAgent="Gadovist") == ("t1", "pre")
    assert found(tmp_path, "Ax", "t1", ProtocolName="T1 post") == ("t1", "post")


def test_the_protocol_of_a_whole_examination_decides_nothing_of_a_series(tmp_path: Path) -> None:
    whole = {"ProtocolName": "BRAIN W/WO CONTRAST + DTI + PERFUSION"}
    assert found(tmp_path, "AX T1 POST", "t1", **whole) == ("t1", "post")
    assert found(tmp_path, "AX T1", "t1", **whole) == ("t1", "")
    assert found(tmp_path, "AX T1", "t1", ProtocolName="BRAIN WITH CONTRAST") == ("t1", "")
    assert found(tmp_path, "AX FLAIR", "flair", **whole) == ("flair", "")
    assert found(tmp_path, "b1000", "t2", ProtocolName="ep2d_diff") == ("", "")


def numbers(study, picks=None, wanted=("pre", "flair", "post")):
    choice = choose(study, picks or {}, wanted)
    return {role: choice.roles[role].series_number for role in wanted if role in choice.roles}, choice.notes


def test_a_study_is_chosen_from(tmp_path: Path) -> None:
    write_study(tmp_path)
    (study,), _ = open_studies([tmp_path])
    assert numbers(study) == ({"pre": 3, "flair": 5, "post": 9}, [])
    assert numbers(study, wanted=("flair", "t2")) == ({"flair": 5, "t2": 4}, [])


def test_picks_override_by_number_uid_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path)
    (study,), _ = open_studies([tmp_path])
    uid = next(stack.series_uid for stack in study.stacks if stack.series_number == 4)
    monkeypatch.chdir(tmp_path)
    for pick in ("4", "4/1", uid, "t2", str(tmp_path / "t2")):
        assert numbers(study, {"post": pick})[0] == {"pre": 3, "flair": 5, "post": 4}
    with pytest.raises(SegkitError, match="--pre 77: no such series; there are the numbers 3, 4, 5, 9"):
        choose(study, {"pre": "77"})
    with pytest.raises(SegkitError, match="names 4 series"):
        choose(study, {"pre": str(tmp_path)})


def test_a_volume_of_a_series_is_picked_by_its_part(tmp_path: Path) -> None:
    for number, time in ((1, 90), (2, 110)):
        write_series(tmp_path / str(number), VOXELS * number, number=5, EchoTime=time)
    (study,), _ = open_studies([tmp_path])
    sums = {part: read_study(study, {"flair": f"5/{part}"}, ("flair",))[0].pixels.sum() for part in (1, 2)}
    assert sorted(sums.values()) == [VOXELS.sum(), 2 * VOXELS.sum()]
    assert numbers(study, {"flair": "5"})[0] == numbers(study, {"flair": "5/1"})[0]
    with pytest.raises(SegkitError, match=r"there are the numbers 5/1, 5/2"):
        choose(study, {"flair": "5/3"})


def test_flair_stands_in_for_what_is_missing(tmp_path: Path) -> None:
    voxels = write_study(tmp_path)
    (study,), _ = open_studies([tmp_path / "flair", tmp_path / "post"])
    roles, notes = numbers(study)
    assert roles == {"flair": 5, "post": 9}
    assert notes == ["no T1 before contrast is found: FLAIR stands in for it, as in the LGG dataset"]
    scan, _ = read_study(study, {}, ("pre", "flair", "post"))
    for channel, name in enumerate(("flair", "flair", "post")):
        np.testing.assert_array_equal(scan.pixels[..., channel], voxels[name])


def test_the_later_of_two_unmarked_t1_is_after_contrast(tmp_path: Path) -> None:
    write_series(tmp_path / "f", VOXELS, number=1, description="FLAIR")
    write_series(tmp_path / "b", VOXELS, number=2, description="T1", timing="t1", AcquisitionTime="121500")
    write_series(tmp_path / "a", VOXELS, number=3, description="T1", timing="t1", AcquisitionTime="120100")
    (study,), _ = open_studies([tmp_path])
    roles, notes = numbers(study)
    assert roles == {"pre": 3, "flair": 1, "post": 2}
    assert "series 2 is taken for it, as the later one" in notes[0]


@pytest.mark.parametrize("late", ["20200304121500.5", "20200305000100", "20200304121500.000000+0100"])
def test_later_is_by_date_and_time(tmp_path: Path, late: str) -> None:
    write_series(tmp_path / "f", VOXELS, number=1, description="FLAIR")
    write_series(tmp_path / "b", VOXELS, number=2, description="T1", timing="t1", AcquisitionDateTime=late)
    write_series(tmp_path / "a", VOXELS, number=3, description="T1", timing="t1", AcquisitionTime="120100")
    (study,), _ = open_studies([tmp_path])
    assert numbers(study)[0] == {"pre": 3, "flair": 1, "post": 2}


def test_series_of_another_frame_of_reference_are_not_chosen(tmp_path: Path) -> None:
    write_series(tmp_path / "f", VOXELS, number=1, description="FLAIR")
    write_series(tmp_path / "p", VOXELS, number=2, description="T1 post", timing="t1", FrameOfReferenceUID="1.2.3")
    (study,), _ = open_studies([tmp_path])
    assert numbers(study)[0] == {"flair": 1}
    roles, notes = numbers(study, {"post": "2"})
    assert roles["post"] == 2
    assert "different frames of reference" in notes[-1]


def test_axial_originals_of_many_slices_are_preferred(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VOXELS, number=1, description="FLAIR cor", orientation=(1, 0, 0, 0, 0, -1))
    write_series(tmp_path / "b", VOXELS, number=2, description="FLAIR tra")
    write_series(tmp_path / "c", VOXELS[:2], number=3, description="FLAIR tra")
    write_series(tmp_path / "d", np.repeat(VOXELS, 2, 0), number=4, description="FLAIR MPR", ImageType=["DERIVED"])
    (study,), _ = open_studies([tmp_path])
    assert numbers(study)[0]["flair"] == 2
    because = {row["number"]: row["reasons"][-1] for row in inspect_dicom(tmp_path).studies[0].series}
    assert because == {
        1: "series 2 goes before it: this one is not axial",
        2: "TR 9000 TE 100 TI 2500",
        3: "series 2 goes before it: this one has few slices",
        4: "series 2 goes before it: this one is computed from others",
    }


def test_without_a_flair_among_several_the_remedy_is_named(tmp_path: Path) -> None:
    for number in (1, 2):
        write_series(tmp_path / str(number), VOXELS, number=number, description="x", timing="t2")
    (study,), _ = open_studies([tmp_path])
    with pytest.raises(
        SegkitError, match="no FLAIR is recognised among series 1, series 2; name it with --flair NUMBER"
    ):
        choose(study, {})
    (report,) = inspect_dicom(tmp_path).studies
    assert [row["reasons"] for row in report.series] == [["TR 4000 TE 95"]] * 2
    assert "no FLAIR is recognised" in report.notes[0]


def test_the_only_series_is_taken_with_a_word(tmp_path: Path) -> None:
    write_series(tmp_path, VOXELS, number=8, description="x", timing="t2", Modality="CT")
    (study,), _ = open_studies([tmp_path])
    assert numbers(study)[1] == [
        "series 8 is not recognised as FLAIR; as the only series it is taken for every channel",
        "series 8 is CT, not MR",
    ]


def test_the_roles_of_a_models_channels() -> None:
    assert roles_of(("pre", "FLAIR", "post")) == ("pre", "flair", "post")
    assert roles_of(("FLAIR", "T1w", "t1gd", "T2w")) == ("flair", "pre", "post", "t2")
    assert roles_of(("c0", "c1", "c2")) == ("pre", "flair", "post")
    assert roles_of(("MRI",)) == ("flair",)
    with pytest.raises(SegkitError, match="channels"):
        roles_of(("ADC", "DWI"))


def test_series_on_other_grids_are_brought_onto_that_of_flair(tmp_path: Path) -> None:
    """A linear ramp in space: trilinear interpolation gives it back exactly, wherever the voxels lie."""

    def ramp(shape, origin, pixel, gap):
        z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
        at = [origin[0] + x * pixel[1], origin[1] + y * pixel[0], origin[2] + z * gap]
        return np.rint(1000 + 10 * at[0] + 20 * at[1] + 30 * at[2]).astype(np.int16)

    places = {
        "FLAIR": ((8, 20, 24), (-10.0, -8.0, 4.0), (1.0, 1.0), 3.0),
        "T1 post": ((20, 30, 40), (-20.0, -14.0, -3.0), (1.5, 1.25), 2.0),
    }
    for number, (name, (shape, origin, pixel, gap)) in enumerate(places.items(), 1):
        write_series(
            tmp_path / name, ramp(shape, origin, pixel, gap), number=number, description=name,
            timing="t1" if "T1" in name else "flair", origin=origin, pixel=pixel, gap=gap,
        )  # fmt: skip
    (study,), _ = open_studies([tmp_path])
    scan, _ = read_study(study, {}, ("flair", "post"))
    np.testing.assert_allclose(scan.pixels[..., 1], scan.pixels[..., 0], atol=1.5)  # both were rounded
    assert scan.shape == (8, 20, 24)
    assert "series 2: is resampled onto the grid of series 1, of which it covers 100%" in scan.notes
    notes = inspect_dicom(tmp_path).studies[0].notes
    assert "series 2 lies on another grid than series 1, onto which it would be resampled" in notes


def test_inspect_shows_the_choice_and_no_patient(tmp_path: Path) -> None:
    write_study(tmp_path)
    write_series(tmp_path / "x", VOXELS, number=12, description="T1 of SZABO  4711", timing="t1", skip=(1,))
    text = inspect_dicom(tmp_path).as_text()
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ") and line.split()}
    assert "T1 before contrast" in rows["3"]
    assert "FLAIR  " in rows["5"]
    assert 'T1 after contrast   "t1", TR 500 TE 10, "post"' in rows["9"]
    (study,) = inspect_dicom(tmp_path).as_json()["studies"]
    assert [row["role"] for row in study["series"]] == ["pre", "", "flair", "post", ""]
    assert "1 slice is missing, between instances 1 and 3" in text
    for part in (*PATIENT["PatientName"].split("^"), "Szabo", "ACC99", "19510203"):
        assert part.lower() not in text.lower()


def test_the_real_study_is_chosen_right(shared: Path, tmp_path: Path) -> None:
    with tarfile.open(shared / "dicom" / "study.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    (study,), notes = open_studies([tmp_path / "study"])
    assert notes == []
    assert numbers(study) == ({"pre": 26401, "flair": 36468, "post": 11}, [])
    assert inspect_dicom(tmp_path / "study").as_text().count("22") >= 4
