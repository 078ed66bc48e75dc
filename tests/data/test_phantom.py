"""The phantom: same seed, same bytes; anatomy that hangs together; and no threshold that solves it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from segkit.data.cases import CaseSet
from segkit.data.layouts import find_cases
from segkit.data.phantom import write_phantom
from segkit.data.phantom_anatomy import _longest_run, make_patient, smooth_noise
from segkit.data.read import read_case
from segkit.errors import ConfigError, FileError

SMALL = {"patients": 3, "slices": 4, "size": 64}


def checksum(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.tif")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def best_threshold_dice(values: np.ndarray, mask: np.ndarray) -> float:
    """Largest Dice of `values >= t` over all t, for uint8 values."""
    inside = np.bincount(values[mask], minlength=256)[::-1].cumsum()
    outside = np.bincount(values[~mask], minlength=256)[::-1].cumsum()
    return float((2 * inside / (inside + outside + mask.sum())).max())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> CaseSet:
    root = tmp_path_factory.mktemp("phantom") / "demo"
    write_phantom(root)
    return find_cases(root)


def test_no_threshold_finds_the_lesion(demo: CaseSet) -> None:
    pairs = [read_case(demo, case) for case in demo.cases]
    images = np.concatenate([image for image, _ in pairs])
    masks = np.concatenate([mask for _, mask in pairs]).astype(bool)
    for channel in range(3):
        values = images[..., channel]
        assert best_threshold_dice(values, masks) < 0.5
        assert best_threshold_dice(255 - values, masks) < 0.5
    # Nor does one that may be chosen for each patient.
    each = [best_threshold_dice(image[..., 1], mask.astype(bool)) for image, mask in pairs]
    assert np.mean(each) < 0.5


def test_lesions_span_one_run_of_slices_in_every_patient(demo: CaseSet) -> None:
    shares = []
    for case in demo.cases:
        _, mask = read_case(demo, case)
        present = np.flatnonzero(mask.any(axis=(1, 2)))
        assert len(present) == present[-1] - present[0] + 1
        shares.append(len(present) / len(mask))
    assert 0.25 < np.mean(shares) < 0.45


def test_it_is_an_lgg_set_without_problems(demo: CaseSet) -> None:
    assert (demo.layout, demo.problems, demo.licence, len(demo.cases)) == ("lgg", (), "", 24)
    assert {case.institution for case in demo.cases} == {"AA", "BB", "CC"}
    assert all(case.patient.startswith(f"PHANTOM_{case.institution}_") for case in demo.cases)
    assert {(len(case.slices), case.shape) for case in demo.cases} == {(14, (128, 128))}


def test_no_two_patients_are_alike(demo: CaseSet) -> None:
    lesions = {read_case(demo, case)[1].tobytes() for case in demo.cases}
    assert len(lesions) == len(demo.cases)


def test_missing_sequences_are_copies_of_flair(demo: CaseSet) -> None:
    copies = {"post": 0, "pre": 0}
    for case in demo.cases:
        images, _ = read_case(demo, case)
        copies["post"] += np.array_equal(images[..., 2], images[..., 1])
        copies["pre"] += np.array_equal(images[..., 0], images[..., 1])
    assert copies == {"post": 2, "pre": 1}


def test_lesions_are_bright_on_flair_and_dark_before_contrast() -> None:
    for seed in range(5):
        images, lesion = make_patient(np.random.default_rng(seed), 10, 128, pre=True, post=True)
        brain = images[..., 0] > np.percentile(images[..., 0], 60)
        white = brain & ~lesion
        assert np.median(images[lesion][:, 1]) > 1.3 * np.median(images[white][:, 1])
        assert np.median(images[lesion][:, 0]) < 0.8 * np.median(images[white][:, 0])


@pytest.mark.parametrize("slices", [4, 9, 30])
def test_every_patient_has_a_lesion(slices: int) -> None:
    for seed in range(12):
        _, lesion = make_patient(np.random.default_rng(seed), slices, 64, pre=True, post=True)
        assert lesion.sum() >= 20


def test_of_a_frayed_shape_the_longest_run_is_kept() -> None:
    seen = np.zeros((8, 3, 3), np.float32)
    seen[[0, 2, 3, 4, 7], 1, 1] = 0.9
    seen[5] = 0.4  # no voxel of it is in the mask
    assert np.flatnonzero(_longest_run(seen)).tolist() == [2, 3, 4]
    assert not _longest_run(seen * 0).any()


def test_noise_has_about_unit_variance_and_no_seams() -> None:
    field = smooth_noise(np.random.default_rng(0), (40, 90, 90), (8, 18, 18))
    assert abs(field.mean()) < 0.15
    assert 0.8 < field.std() < 1.2
    steps = np.abs(np.diff(field, axis=2)).mean(axis=(0, 1))
    across = steps[4::5].mean()  # between two cells, each 5 pixels wide
    assert 0.8 < across / steps.mean() < 1.2


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a", **SMALL, seed=5)
    write_phantom(tmp_path / "b", **SMALL, seed=5)
    write_phantom(tmp_path / "c", **SMALL, seed=6)
    assert checksum(tmp_path / "a") == checksum(tmp_path / "b") != checksum(tmp_path / "c")
    # A patient does not depend on how many others there are.
    write_phantom(tmp_path / "d", **{**SMALL, "patients": 2}, seed=5)
    for path in (tmp_path / "d").rglob("*.tif"):
        assert path.read_bytes() == (tmp_path / "a" / path.relative_to(tmp_path / "d")).read_bytes()


def test_written_again_only_where_something_differs(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_phantom(root, **SMALL)
    first = next(root.rglob("*_1.tif"))
    before = first.stat().st_mtime_ns
    write_phantom(root, **SMALL)
    assert first.stat().st_mtime_ns == before
    first.unlink()
    write_phantom(root, **SMALL)
    assert first.exists()
    write_phantom(root, **{**SMALL, "patients": 2})
    assert len(find_cases(root).cases) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileError, match=r"not empty \(mine\.txt\)"):
        write_phantom(tmp_path, **SMALL)
    root = tmp_path / "set"
    write_phantom(root, **SMALL)
    (root / "notes.txt").write_text("keep")
    with pytest.raises(FileError, match="not empty"):
        write_phantom(root, **{**SMALL, "patients": 2})
    assert (root / "notes.txt").read_text() == "keep"


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"slices": 3}, {"size": 32}, {"seed": -1}])
def test_arguments_out_of_range(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        write_phantom(tmp_path / "set", **wrong)
    assert not (tmp_path / "set").exists()
