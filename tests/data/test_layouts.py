"""Each layout, made by hand: what is found, what is left out, and what is said about it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import ClassVar

import nibabel
import numpy as np
import pytest
from PIL import Image

from segkit.data.cases import CaseSet, Problem
from segkit.data.headers import read_image_header, read_volume_header
from segkit.data.layouts import find_cases
from segkit.data.read import class_indices, fingerprint, read_case, read_slice, without
from segkit.data.survey import UnreadableSlices, choose_frame, run_survey
from segkit.errors import FileError

RNG = np.random.default_rng(0)


def unreadable(case_set: CaseSet) -> list[Problem]:
    """What decoding everything, as training does, finds wrong; by path."""
    try:
        run_survey(case_set, choose_frame(case_set))
    except UnreadableSlices as error:
        return sorted(set(error.problems), key=lambda problem: str(problem.path))
    return []


def picture(path: Path, height: int = 20, width: int = 24, bands: int = 3, mode: str = "") -> np.ndarray:
    pixels = RNG.integers(0, 256, (height, width, bands), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if bands > 1 else pixels[..., 0], mode or None).save(path)
    return pixels


def mask_file(path: Path, values: tuple[int, ...] = (0, 255), height: int = 20, width: int = 24) -> np.ndarray:
    indices = np.zeros((height, width), np.uint8)
    for index in range(1, len(values)):
        indices[index * 3 : index * 3 + 2, 4:9] = index
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)[indices]).save(path)
    return indices


def lgg_slice(root: Path, patient: str, k: int, **size: int) -> tuple[np.ndarray, np.ndarray]:
    return (
        picture(root / patient / f"{patient}_{k}.tif", **size),
        mask_file(root / patient / f"{patient}_{k}_mask.tif", **size),
    )


def volume(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine).to_filename(path)


class TestLgg:
    def test_slices_stand_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        patient = "TCGA_DU_1234_19990101"
        made = {k: lgg_slice(tmp_path, patient, k) for k in (10, 2, 1, 9)}
        (tmp_path / "data.csv").write_text("Patient,age\n")
        (tmp_path / "README.md").write_text("about\n")
        (tmp_path / patient / ".complete").touch()
        case_set = find_cases(tmp_path)
        (case,) = case_set.cases
        assert (case_set.layout, case_set.classes, case_set.channels) == (
            "lgg",
            ("background", "tumor"),
            ("pre", "FLAIR", "post"),
        )
        assert (case.patient, case.institution, case.shape, case.spacing) == (patient, "DU", (20, 24), None)
        assert (case_set.problems, case_set.licence) == ((), "CC BY-NC-SA 4.0")
        images, masks = read_case(case_set, case)
        np.testing.assert_array_equal(images, np.stack([made[k][0] for k in (1, 2, 9, 10)]))
        np.testing.assert_array_equal(masks, np.stack([made[k][1] for k in (1, 2, 9, 10)]))
        assert pickle.loads(pickle.dumps(case_set)) == case_set  # noqa: S301 - what loader workers do

    @pytest.mark.parametrize("inside", ["kaggle_3m", "lgg-mri-segmentation/kaggle_3m"])
    def test_wrapped_in_folders(self, tmp_path: Path, inside: str) -> None:
        lgg_slice(tmp_path / inside, "A_BB_1", 1)
        case_set = find_cases(tmp_path)
        assert case_set.root == tmp_path / inside
        assert case_set.licence == ""

    def test_unusable_files_are_named_and_left_out(self, tmp_path: Path) -> None:
        for k in range(1, 9):
            lgg_slice(tmp_path, "P_AA_1", k)
        folder = tmp_path / "P_AA_1"
        (folder / "P_AA_1_2_mask.tif").unlink()
        (folder / "P_AA_1_3.tif").unlink()
        cut = folder / "P_AA_1_4.tif"
        cut.write_bytes(cut.read_bytes()[:400])
        mask_file(folder / "P_AA_1_5_mask.tif", height=10)
        (folder / "P_AA_1_6.tif").write_text("no image")
        picture(folder / "P_AA_1_7.tif", bands=1)
        case_set = find_cases(tmp_path)
        assert [ref.images[0].name for ref in case_set.cases[0].slices] == ["P_AA_1_1.tif", "P_AA_1_8.tif"]
        reasons = {problem.path.name: problem.reason for problem in case_set.problems}
        assert reasons == {
            "P_AA_1_2.tif": "has no mask beside it",
            "P_AA_1_3_mask.tif": "has no image beside it",
            "P_AA_1_4.tif": reasons["P_AA_1_4.tif"],
            "P_AA_1_5_mask.tif": "is 24 x 10, but P_AA_1_5.tif is 24 x 20",
            "P_AA_1_6.tif": "cannot be read (not an image in a known format)",
            "P_AA_1_7.tif": "has 1 channel, not 3",
        }
        assert "cut short" in reasons["P_AA_1_4.tif"]

    def test_a_slice_of_another_size_than_the_patients(self, tmp_path: Path) -> None:
        for k, height in enumerate((20, 20, 32), start=1):
            lgg_slice(tmp_path, "P_AA_1", k, height=height)
        case_set = find_cases(tmp_path)
        assert len(case_set.cases[0].slices) == 2
        assert [problem.path.name for problem in case_set.problems] == ["P_AA_1_3.tif"]

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow, of the file cut on purpose
    def test_compressed_files_are_checked_by_decoding(self, tmp_path: Path) -> None:
        for k in (1, 2, 3):
            lgg_slice(tmp_path, "P_AA_1", k, height=200, width=200)
        cut = tmp_path / "P_AA_1" / "P_AA_1_2.tif"
        Image.fromarray(RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(cut, compression="tiff_lzw")
        cut.write_bytes(cut.read_bytes()[:-5000])
        odd = tmp_path / "P_AA_1" / "P_AA_1_3_mask.tif"
        mask_file(odd, (0, 128), height=200, width=200)
        case_set = find_cases(tmp_path)
        problems = [*case_set.problems, *unreadable(case_set)]
        assert [problem.path.name for problem in problems] == ["P_AA_1_2.tif", "P_AA_1_3_mask.tif"]
        assert problems[1].reason == "holds mask values [128]; known are [0, 255]"
        rest = without(case_set, problems)
        assert [ref.images[0].name for ref in rest.cases[0].slices] == ["P_AA_1_1.tif"]
        assert unreadable(rest) == []

    def test_agrees_with_pillow_on_every_header(self, tmp_path: Path) -> None:
        for name, options in {"plain.tif": {}, "lzw.tif": {"compression": "tiff_lzw"}, "x.png": {}}.items():
            for bands in (1, 3):
                pixels = RNG.integers(0, 256, (17, 31, bands), dtype=np.uint8)
                Image.fromarray(pixels if bands > 1 else pixels[..., 0]).save(tmp_path / name, **options)
                header = read_image_header(tmp_path / name)
                assert (header.height, header.width, header.bands) == (17, 31, bands)

    def test_a_stack_of_pages_is_no_slice(self, tmp_path: Path) -> None:
        pages = [Image.new("L", (8, 8), k) for k in range(3)]
        pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
        with pytest.raises(FileError, match="has 3 pages"):
            read_image_header(tmp_path / "stack.tif")


class TestPairs:
    def test_patients_are_common_prefixes(self, tmp_path: Path) -> None:
        for stem in ("ann_10", "ann_2", "bob_1", "cleo", "dan_7b"):
            picture(tmp_path / "images" / f"{stem}.png")
            mask_file(tmp_path / "masks" / f"{stem}.png")
        case_set = find_cases(tmp_path)
        assert [case.patient for case in case_set.cases] == ["ann", "bob_1", "cleo", "dan_7b"]
        assert [ref.mask.stem for ref in case_set.cases[0].slices] == ["ann_2", "ann_10"]
        assert (case_set.layout, case_set.classes) == ("pairs", ("background", "foreground"))
        assert case_set.channels == ("red", "green", "blue")

    def test_one_prefix_for_all_names_no_patient(self, tmp_path: Path) -> None:
        for k in range(3):
            picture(tmp_path / "images" / f"img_{k:03}.png", bands=1)
            mask_file(tmp_path / "masks" / f"img_{k:03}.png", (0, 1))
        case_set = find_cases(tmp_path)
        assert [case.patient for case in case_set.cases] == ["img_000", "img_001", "img_002"]
        assert (case_set.mask_values, case_set.channels) == ((0, 1), ("image",))

    def test_classes_are_the_values_present(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "a.tif")
        indices = mask_file(tmp_path / "masks" / "a.png", (0, 50, 200))
        picture(tmp_path / "images" / "b.tif")
        mask_file(tmp_path / "masks" / "b.png", (0, 50))
        case_set = find_cases(tmp_path)
        assert case_set.classes == ("background", "class 1", "class 2")
        assert case_set.mask_values == (0, 50, 200)
        np.testing.assert_array_equal(read_slice(case_set, case_set.cases[0].slices[0])[1], indices)

    def test_classes_txt_names_them_and_may_name_more_than_occur(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "a.png")
        mask_file(tmp_path / "masks" / "a.png", (0, 2))
        (tmp_path / "classes.txt").write_text("air\nbone\nfat\nskin\n")
        case_set = find_cases(tmp_path)
        assert (case_set.classes, case_set.mask_values) == (("air", "bone", "fat", "skin"), (0, 1, 2, 3))
        (tmp_path / "classes.txt").write_text("air\nfat\n")
        assert find_cases(tmp_path).mask_values == (0, 2)
        mask_file(tmp_path / "masks" / "a.png", (0, 9, 10))
        with pytest.raises(FileError, match="names 2 classes"):
            find_cases(tmp_path)

    def test_kinds_of_files(self, tmp_path: Path) -> None:
        images, masks = tmp_path / "images", tmp_path / "masks"
        rgba = picture(images / "a.png", bands=4)
        masks.mkdir()
        Image.fromarray(np.eye(24, dtype=bool)[:20]).save(masks / "a.tif")
        palette = Image.fromarray(RNG.integers(0, 9, (20, 24), dtype=np.uint8))
        palette.putpalette([k for v in range(256) for k in (v, 0, 255 - v)])
        palette.save(images / "b.png")
        mask_file(masks / "b.png")
        picture(images / "c.jpg")
        picture(masks / "c.png")
        case_set = find_cases(tmp_path)
        assert [case.patient for case in case_set.cases] == ["a", "b"]
        assert [str(problem.reason) for problem in case_set.problems] == [
            "has 3 channels; a mask has one value a pixel"
        ]
        image, mask = read_slice(case_set, case_set.cases[0].slices[0])
        np.testing.assert_array_equal(image, rgba[..., :3])
        np.testing.assert_array_equal(mask, np.eye(24, dtype=np.uint8)[:20])
        values = read_slice(case_set, case_set.cases[1].slices[0])[0]
        np.testing.assert_array_equal(values[..., 0], 255 - values[..., 2])

    def test_sixteen_bits_are_windowed(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        pixels = np.arange(480, dtype=np.uint16).reshape(20, 24) * 100
        Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
        mask_file(tmp_path / "masks" / "a.png")
        case_set = find_cases(tmp_path)
        image, _ = read_slice(case_set, case_set.cases[0].slices[0])
        assert (image.shape, image.dtype, image.min(), image.max()) == ((20, 24, 1), np.uint8, 0, 255)
        assert (np.diff(image.ravel().astype(int)) >= 0).all()

    def test_smoothed_mask_and_lonely_files(self, tmp_path: Path) -> None:
        for stem in "abc":
            picture(tmp_path / "images" / f"{stem}.png")
        mask_file(tmp_path / "masks" / "a.png")
        picture(tmp_path / "masks" / "b.png", bands=1)
        case_set = find_cases(tmp_path)
        assert [case.patient for case in case_set.cases] == ["a"]
        reasons = {problem.path.name: problem.reason for problem in case_set.problems}
        assert reasons.keys() == {"b.png", "c.png"}
        assert "different values" in reasons["b.png"]
        assert reasons["c.png"] == "has no mask in masks/"


class TestDecathlon:
    INFO: ClassVar = {
        "modality": {"0": "FLAIR", "1": "T1"},
        "labels": {"0": "background", "1": "edema", "2": "core"},
    }

    def write(self, root: Path, info: dict[str, object], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        voxels = RNG.normal(500, 200, (6, 5, 4, 2)).astype(np.float32)
        labels = RNG.integers(0, 3, (6, 5, 4)).astype(np.float32)
        volume(root / "imagesTr" / "case_1.nii.gz", voxels, affine)
        volume(root / "labelsTr" / "case_1.nii.gz", labels, affine)
        (root / "dataset.json").write_text(json.dumps(info))
        return voxels, labels

    def test_channels_on_the_fourth_axis(self, tmp_path: Path) -> None:
        listed = {"training": [{"image": "./imagesTr/case_1.nii.gz", "label": "./labelsTr/case_1.nii.gz"}]}
        # Axes of the file: x to the right, y to the front, z up. The display wants left, back, up.
        affine = np.diag([0.5, 0.75, 3.0, 1.0])
        voxels, labels = self.write(tmp_path, {**self.INFO, **listed, "licence": "CC-BY-SA 4.0"}, affine)
        case_set = find_cases(tmp_path)
        (case,) = case_set.cases
        assert (case_set.layout, case_set.licence) == ("decathlon", "CC-BY-SA 4.0")
        assert (case_set.classes, case_set.channels) == (("background", "edema", "core"), ("FLAIR", "T1"))
        assert (case.patient, case.shape, case.spacing) == ("case_1", (5, 6), (3.0, 0.75, 0.5))
        images, masks = read_case(case_set, case)
        np.testing.assert_array_equal(masks, labels[::-1, ::-1].transpose(2, 1, 0))
        expected = voxels[::-1, ::-1].transpose(2, 1, 0, 3)
        for channel in (0, 1):
            order = np.argsort(expected[..., channel].ravel())
            assert (np.diff(images[..., channel].ravel()[order].astype(int)) >= 0).all()
            assert images[..., channel].max() == 255

    def test_nnunet_with_a_file_a_channel(self, tmp_path: Path) -> None:
        info = {
            "channel_names": {"0": "FLAIR", "1": "T1"},
            "labels": {"background": 0, "edema": 1, "core": 2},
            "file_ending": ".nii.gz",
        }
        flipped = np.array([[0, -2.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 1.5, 0], [0, 0, 0, 1]])  # axes y, x, z
        voxels, _ = self.write(tmp_path, info, flipped)
        together = tmp_path / "imagesTr" / "case_1.nii.gz"
        for channel in (0, 1):
            volume(tmp_path / "imagesTr" / f"case_1_000{channel}.nii.gz", voxels[..., channel], flipped)
        together.unlink()
        volume(tmp_path / "imagesTr" / "case_2_0000.nii.gz", voxels[..., 0], flipped)
        case_set = find_cases(tmp_path)
        images, _ = read_case(case_set, case_set.cases[0])
        assert case_set.cases[0].shape == (6, 5)
        assert case_set.cases[0].spacing == (1.5, 1.0, 2.0)
        assert [problem.path.name for problem in case_set.problems] == ["case_2_0000.nii.gz"]
        # The same voxels as one file with four axes take another way through the code.
        volume(tmp_path / "four" / "imagesTr" / "case_1.nii.gz", voxels, flipped)
        (tmp_path / "labelsTr").rename(tmp_path / "four" / "labelsTr")
        (tmp_path / "four" / "dataset.json").write_text(json.dumps(info))
        four = find_cases(tmp_path / "four")
        np.testing.assert_array_equal(read_case(four, four.cases[0])[0], images)

    def test_volumes_that_do_not_fit_are_named(self, tmp_path: Path) -> None:
        names = ("good", "short", "cut", "missing", "values")
        listed = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in names]
        listed.append({"image": "../outside.nii.gz", "label": "labelsTr/good.nii.gz"})
        info = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "tumour"}, "training": listed}
        for name in names[:3] + names[4:]:
            volume(tmp_path / "imagesTr" / f"{name}.nii.gz", RNG.normal(size=(8, 8, 8)))
            labels = RNG.integers(0, 2, (8, 8, 7 if name == "short" else 8)).astype(np.uint8)
            volume(tmp_path / "labelsTr" / f"{name}.nii.gz", labels + (name == "values"))
        cut = tmp_path / "imagesTr" / "cut.nii.gz"
        cut.write_bytes(cut.read_bytes()[:-900])
        (tmp_path / "dataset.json").write_text(json.dumps(info))
        case_set = find_cases(tmp_path)
        assert [case.patient for case in case_set.cases] == ["cut", "good", "values"]
        assert sorted(problem.path.name for problem in case_set.problems) == [
            "missing.nii.gz",
            "outside.nii.gz",
            "short.nii.gz",
        ]
        problems = unreadable(case_set)
        assert [problem.path for problem in problems] == [cut, tmp_path / "labelsTr" / "values.nii.gz"]
        assert [case.patient for case in without(case_set, problems).cases] == ["good"]

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ({"background": 0, "whole": [1, 2]}, "regions"),
            ({"background": 0, "tumour": 1, "ignore": 2}, "ignore"),
            ({"0": "background"}, "label values"),
        ],
    )
    def test_labels_that_are_not_classes(self, tmp_path: Path, labels: object, reason: str) -> None:
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "T1"}}))
        with pytest.raises(FileError, match=reason):
            find_cases(tmp_path)

    def test_real_hippocampus(self, shared: Path) -> None:
        case_set = find_cases(shared / "hippocampus")
        assert (len(case_set.cases), len(case_set.problems)) == (100, 0)
        assert case_set.classes == ("background", "Anterior", "Posterior")
        case = case_set.cases[0]
        images, masks = read_case(case_set, case)
        label: nibabel.Nifti1Image = nibabel.load(case.slices[0].mask)
        expected = np.bincount(np.asarray(label.dataobj).astype(int).ravel())
        np.testing.assert_array_equal(np.bincount(masks.ravel()), expected)
        assert images.shape == (len(case.slices), *case.shape, 1)


class TestOther:
    def test_no_dataset_tells_the_known_layouts(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        picture(tmp_path / "photos" / "a.png")
        with pytest.raises(FileError, match=r"LGG.*dataset\.json.*images/ and masks/"):
            find_cases(tmp_path)
        with pytest.raises(FileError, match="does not exist"):
            find_cases(tmp_path / "gone")

    def test_several_datasets_are_not_chosen_from(self, tmp_path: Path) -> None:
        lgg_slice(tmp_path / "one", "A_BB_1", 1)
        lgg_slice(tmp_path / "two", "A_BB_1", 1)
        with pytest.raises(FileError, match=r"several datasets \(one, two\)"):
            find_cases(tmp_path)

    def test_a_dataset_without_a_usable_slice(self, tmp_path: Path) -> None:
        lgg_slice(tmp_path, "A_BB_1", 1)
        (tmp_path / "A_BB_1" / "A_BB_1_1.tif").write_bytes(b"")
        with pytest.raises(FileError, match=r"no usable slice.*A_BB_1_1\.tif"):
            find_cases(tmp_path)

    def test_fingerprint_follows_the_files_in_use(self, tmp_path: Path) -> None:
        for k in (1, 2):
            lgg_slice(tmp_path / "set", "A_BB_1", k)
        before = fingerprint(find_cases(tmp_path / "set"))
        (tmp_path / "set" / "data.csv").write_text("stray")
        assert fingerprint(find_cases(tmp_path / "set")) == before
        (tmp_path / "set").rename(tmp_path / "moved")
        assert fingerprint(find_cases(tmp_path / "moved")) == before
        (tmp_path / "moved" / "A_BB_1" / "A_BB_1_2.tif").touch()
        assert fingerprint(find_cases(tmp_path / "moved")) != before

    @pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 3, 7), (0, 1, 300)])
    @pytest.mark.parametrize("kind", [np.uint8, np.int32])
    def test_class_indices_undo_the_values(self, values: tuple[int, ...], kind: type) -> None:
        if max(values) > 255 and kind is np.uint8:
            pytest.skip("no such value in 8 bits")
        indices = RNG.integers(0, len(values), (9, 7)).astype(np.uint8)
        raw = np.array(values)[indices].astype(kind)
        np.testing.assert_array_equal(class_indices(raw, values, Path("m")), indices)
        raw[4, 4] = 2
        with pytest.raises(FileError, match=r"mask values \[2\]"):
            class_indices(raw, values, Path("m"))

    def test_a_volume_without_orientation_keeps_its_axes(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), None)
        image.header.set_sform(np.zeros((4, 4)), code=1)
        image.to_filename(tmp_path / "a.nii")
        header = read_volume_header(tmp_path / "a.nii")
        assert (header.slices, header.height, header.width) == (5, 4, 3)
