"""Confusion counts and conventions: figures worked out by hand, and against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from segkit.metrics import CONVENTIONS, ConfusionTable, Summary, confusion, slice_confusions, summarise

TUMOUR = ("background", "tumour")

# Patient A, two slices of 2 x 4 pixels:
#   slice 0: TP 2, FN 2, FP 1, TN 3     slice 1: nothing in either mask, TN 8
# Patient B, two slices of 2 x 4 pixels:
#   slice 0: TP 4, FN 0, FP 0, TN 4     slice 1: reference empty, FP 2, TN 6
A_REFERENCE = np.array([[[1, 1, 1, 1], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]], dtype=np.uint8)
A_PREDICTION = np.array([[[1, 1, 0, 0], [1, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]], dtype=np.uint8)
B_REFERENCE = np.array([[[1, 1, 0, 0], [1, 1, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]], dtype=np.uint8)
B_PREDICTION = np.array([[[1, 1, 0, 0], [1, 1, 0, 0]], [[0, 0, 0, 1], [0, 0, 0, 1]]], dtype=np.uint8)

# Volumes: A has TP 2, FN 2, FP 1, TN 11;  B has TP 4, FN 0, FP 2, TN 10.  Pooled: TP 6, FN 2, FP 3, TN 21.
BY_HAND = {
    "pooled_iou": 6 / 11,  # TP / (TP + FN + FP)
    "pooled_dice": 12 / 17,  # 2 TP / (2 TP + FN + FP)
    "pooled_miou": (21 / 26 + 6 / 11) / 2,  # background: 21 / (21 + 2 + 3)
    "patient_dice_mean": (4 / 7 + 8 / 10) / 2,
    "patient_dice_median": (4 / 7 + 8 / 10) / 2,  # of two patients
    "patient_iou_mean": (2 / 5 + 4 / 6) / 2,
    "patient_miou_mean": ((11 / 14 + 2 / 5) / 2 + (10 / 12 + 4 / 6) / 2) / 2,
    "slice_iou_present": (2 / 5 + 1) / 2,  # the two slices with tumour
    "slice_dice_present": (4 / 7 + 1) / 2,
    "slice_iou_empty_one": (2 / 5 + 1 + 1 + 0) / 4,  # A1 is left alone: 1; B1 is a false alarm: 0
    "slice_dice_empty_one": (4 / 7 + 1 + 1 + 0) / 4,
    # Background IoU of the four slices: 3/6, 8/8, 4/4, 6/8; tumour IoU as above.
    "slice_miou": ((3 / 6 + 2 / 5) / 2 + 1 + 1 + (6 / 8 + 0) / 2) / 4,
}


def table_of(*patients: tuple[str, np.ndarray, np.ndarray], classes: tuple[str, ...] = TUMOUR) -> ConfusionTable:
    """A table of `(name, prediction, reference)` masks."""
    pairs = [(name, slice_confusions(mask, truth, len(classes))) for name, mask, truth in patients]
    return ConfusionTable.from_patients(pairs, classes)


def two_patients() -> Summary:
    return summarise(table_of(("A", A_PREDICTION, A_REFERENCE), ("B", B_PREDICTION, B_REFERENCE)))


class TestConfusion:
    def test_rows_are_the_reference(self) -> None:
        # 1 pixel of class 1 called 2, 2 pixels of class 2 called 0, one of class 0 called 0.
        reference = np.array([1, 2, 2, 0], dtype=np.uint8)
        prediction = np.array([2, 0, 0, 0], dtype=np.uint8)
        assert confusion(prediction, reference, 3).tolist() == [[1, 0, 0], [0, 0, 1], [2, 0, 0]]

    @pytest.mark.parametrize("classes", [2, 4, 16, 17, 200, 256])
    def test_counts_every_pair_of_indices(self, classes: int) -> None:
        rng = np.random.default_rng(classes)
        reference, prediction = rng.integers(0, classes, (2, 3, 40, 41)).astype(np.uint8)
        expected = np.zeros((3, classes, classes), dtype=np.int64)
        where = np.broadcast_to(np.arange(3)[:, None, None], reference.shape)
        np.add.at(expected, (where, reference, prediction), 1)
        counts = slice_confusions(prediction, reference, classes)
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, expected)
        np.testing.assert_array_equal(confusion(prediction, reference, classes), expected.sum(axis=0))

    def test_takes_bool_masks(self) -> None:
        counts = confusion(A_PREDICTION == 1, A_REFERENCE == 1, 2)
        np.testing.assert_array_equal(counts, [[11, 1], [2, 2]])

    def test_no_slices(self) -> None:
        nothing = np.zeros((0, 8, 8), dtype=np.uint8)
        assert slice_confusions(nothing, nothing, 3).shape == (0, 3, 3)

    @pytest.mark.parametrize("index", [2, 3])
    def test_refuses_an_index_that_is_no_class(self, index: int) -> None:
        # Counted blindly, index 2 in a row of 2 would be the next row's first cell.
        wrong, right = np.array([0, index], dtype=np.uint8), np.array([0, 0], dtype=np.uint8)
        with pytest.raises(ValueError, match=f"holds the index {index}"):
            confusion(wrong, right, 2)
        with pytest.raises(ValueError, match=f"holds the index {index}"):
            confusion(right, wrong, 2)

    def test_refuses_other_types_and_shapes(self) -> None:
        with pytest.raises(ValueError, match="float32"):
            confusion(A_PREDICTION.astype(np.float32), A_REFERENCE, 2)
        with pytest.raises(ValueError, match="differ in shape"):
            confusion(A_PREDICTION[:1], A_REFERENCE, 2)
        with pytest.raises(ValueError, match="1 classes"):
            confusion(A_PREDICTION, A_REFERENCE, 1)


class TestTable:
    def test_sums_a_patients_slices(self) -> None:
        table = table_of(("A", A_PREDICTION, A_REFERENCE), ("B", B_PREDICTION, B_REFERENCE))
        np.testing.assert_array_equal(table.by_patient, [[[11, 1], [2, 2]], [[10, 2], [0, 4]]])
        assert table.patient.tolist() == [0, 0, 1, 1]

    def test_slices_need_not_be_in_order(self) -> None:
        table = table_of(("A", A_PREDICTION, A_REFERENCE), ("B", B_PREDICTION, B_REFERENCE))
        order = np.array([3, 0, 2, 1])
        mixed = ConfusionTable(table.counts[order], table.patient[order], table.patients, table.classes)
        assert summarise(mixed).values() == pytest.approx(summarise(table).values())

    def test_refuses_what_does_not_fit(self) -> None:
        counts = slice_confusions(A_PREDICTION, A_REFERENCE, 2)
        with pytest.raises(ValueError, match="do not fit 3 classes"):
            ConfusionTable.from_patients([("A", counts)], ("background", "a", "b"))
        with pytest.raises(ValueError, match="each named once"):
            ConfusionTable.from_patients([("A", counts), ("A", counts)], TUMOUR)
        with pytest.raises(ValueError, match="needs patients"):
            ConfusionTable.from_patients([], TUMOUR)
        with pytest.raises(ValueError, match="not named"):
            ConfusionTable(counts, np.array([0, 1]), ("A",), TUMOUR)
        with pytest.raises(ValueError, match="patient indices"):
            ConfusionTable(counts, np.array([0]), ("A",), TUMOUR)


class TestByHand:
    def test_every_convention_but_the_largest_component_is_checked(self) -> None:
        assert set(BY_HAND) == {convention.key for convention in CONVENTIONS if not convention.largest}

    @pytest.mark.parametrize("key", BY_HAND)
    def test_figure(self, key: str) -> None:
        assert two_patients().figure(key).value == pytest.approx(BY_HAND[key], abs=1e-12)

    def test_what_each_figure_is_over(self) -> None:
        summary = two_patients()
        assert summary.figure("pooled_iou").over == "all pixels"
        assert summary.figure("patient_dice_mean").over == "2 of 2 patients"
        assert summary.figure("slice_dice_present").over == "2 of 4 slices"
        assert summary.figure("slice_miou").over == "4 of 4 slices"

    def test_patient_rows(self) -> None:
        a, b = two_patients().patients
        assert (a.patient, a.slices, a.slices_with_reference) == ("A", 2, 1)
        assert (a.reference_pixels, a.predicted_pixels) == (4, 3)
        assert (b.reference_pixels, b.predicted_pixels) == (4, 6)
        assert (a.dice, a.iou) == (pytest.approx(4 / 7), pytest.approx(2 / 5))
        assert a.confusion == ((11, 1), (2, 2))
        assert a.dice_largest is None
        assert a.hd95 is None

    def test_class_figures(self) -> None:
        background, tumour = two_patients().classes
        assert (background.name, background.reference_pixels, background.predicted_pixels) == (
            "background",
            24,
            23,
        )
        assert (tumour.name, tumour.reference_pixels, tumour.predicted_pixels) == ("tumour", 8, 9)
        values = {figure.key: figure.value for figure in background.figures}
        assert values["pooled_iou"] == pytest.approx(21 / 26)
        assert values["pooled_dice"] == pytest.approx(42 / 47)
        # Background of A: 2 * 11 / (13 + 12); of B: 2 * 10 / (10 + 12).
        assert values["patient_dice_mean"] == pytest.approx((22 / 25 + 20 / 22) / 2)

    def test_largest_component_has_its_own_table(self) -> None:
        table = table_of(("A", A_PREDICTION, A_REFERENCE), ("B", B_PREDICTION, B_REFERENCE))
        cut = B_PREDICTION.copy()
        cut[1] = 0  # B's false alarm is a component of its own; without it B is perfect
        largest = table_of(("A", A_PREDICTION, A_REFERENCE), ("B", cut, B_REFERENCE))
        summary = summarise(table, largest)
        assert summary.figure("patient_dice_mean").value == pytest.approx((4 / 7 + 8 / 10) / 2)
        assert summary.figure("patient_dice_largest_mean").value == pytest.approx((4 / 7 + 1) / 2)
        assert [row.dice_largest for row in summary.patients] == pytest.approx([4 / 7, 1.0])
        with pytest.raises(KeyError):
            summarise(table).figure("patient_dice_largest_mean")

    def test_refuses_a_largest_table_of_other_patients(self) -> None:
        table = table_of(("A", A_PREDICTION, A_REFERENCE))
        with pytest.raises(ValueError, match="other patients"):
            summarise(table, table_of(("B", A_PREDICTION, A_REFERENCE)))

    def test_several_classes_are_averaged_where_present(self) -> None:
        # Class 1: TP 1, FN 1 -> IoU 1/2, Dice 2/3.  Class 2: only predicted, 1 pixel -> 0.  Class 3: nowhere.
        reference = np.array([[[0, 0, 1, 1]]], dtype=np.uint8)
        prediction = np.array([[[0, 0, 1, 2]]], dtype=np.uint8)
        summary = summarise(table_of(("A", prediction, reference), classes=("background", "a", "b", "c")))
        assert summary.figure("pooled_iou").value == pytest.approx((1 / 2 + 0) / 2)
        assert summary.figure("pooled_miou").value == pytest.approx((1 + 1 / 2 + 0) / 3)
        assert summary.figure("patient_dice_mean").value == pytest.approx((2 / 3 + 0) / 2)
        assert summary.figure("slice_dice_present").value == pytest.approx(2 / 3)  # the reference has only class 1
        assert summary.figure("slice_dice_empty_one").value == pytest.approx((2 / 3 + 0 + 1) / 3)
        assert summary.figure("slice_miou").value == pytest.approx((1 + 1 / 2 + 0 + 1) / 4)
        assert [figure.value for figure in summary.classes[3].figures] == [None, None, None]
        assert summary.patients[0].predicted_pixels == 2

    def test_labels_name_the_one_foreground_class(self) -> None:
        assert two_patients().figure("pooled_iou").label == "IoU of tumour, pooled"


class TestEdges:
    def test_everything_empty(self) -> None:
        empty = np.zeros((3, 4, 4), dtype=np.uint8)
        summary = summarise(table_of(("A", empty, empty), ("B", empty, empty)))
        for key in (
            "pooled_iou",
            "pooled_dice",
            "patient_dice_mean",
            "patient_dice_median",
            "slice_dice_present",
        ):
            figure = summary.figure(key)
            assert (figure.value, figure.low, figure.high) == (None, None, None)
        assert summary.figure("pooled_miou").value == 1  # the background alone
        assert summary.figure("slice_iou_empty_one").value == 1
        assert summary.figure("patient_dice_mean").over == "0 of 2 patients"
        assert [row.dice for row in summary.patients] == [None, None]

    def test_a_patient_without_either_mask_is_left_out_and_a_false_alarm_counts_as_0(self) -> None:
        empty = np.zeros_like(A_REFERENCE)
        summary = summarise(
            table_of(("A", A_PREDICTION, A_REFERENCE), ("healthy", empty, empty), ("alarm", A_PREDICTION, empty))
        )
        assert [row.dice for row in summary.patients] == [pytest.approx(4 / 7), None, 0]
        assert summary.figure("patient_dice_mean").value == pytest.approx((4 / 7 + 0) / 2)
        assert summary.figure("patient_dice_mean").over == "2 of 3 patients"

    def test_one_patient_has_no_interval(self) -> None:
        summary = summarise(table_of(("A", A_PREDICTION, A_REFERENCE)))
        for figure in summary.figures:
            assert figure.value is not None
            assert figure.low is None
            assert figure.high is None

    def test_a_patient_without_slices(self) -> None:
        nothing = np.zeros((0, 2, 4), dtype=np.uint8)
        summary = summarise(table_of(("A", A_PREDICTION, A_REFERENCE), ("none", nothing, nothing)))
        assert summary.figure("patient_dice_mean").value == pytest.approx(4 / 7)
        assert summary.figure("patient_miou_mean").over == "1 of 2 patients"
        assert summary.patients[1].slices == 0


@pytest.mark.parametrize("classes", [2, 4])
class TestAgainstTorchmetrics:
    """Random masks: each convention rebuilt from torchmetrics' scores of pixels, volumes, slices."""

    def masks(self, classes: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(classes)
        patients = []
        for number in range(5):
            truth = rng.integers(0, classes, (4, 9, 11)).astype(np.uint8)
            other = rng.integers(0, classes, truth.shape).astype(np.uint8)
            guess = np.where(rng.random(truth.shape) < 0.7, truth, other)
            patients.append((f"p{number}", guess, truth))
        return patients

    def scores(self, metric: type, guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
        measure = metric(num_classes=classes, average="none")
        return np.asarray(measure(torch.from_numpy(guess), torch.from_numpy(truth)), dtype=np.float64)

    def test_pooled(self, classes: int) -> None:
        masks = self.masks(classes)
        summary = summarise(table_of(*masks, classes=tuple("abcd"[:classes])))
        guess, truth = (np.concatenate([entry[side] for entry in masks]) for side in (1, 2))
        iou = self.scores(MulticlassJaccardIndex, guess, truth, classes)
        dice = self.scores(MulticlassF1Score, guess, truth, classes)
        assert summary.figure("pooled_miou").value == pytest.approx(iou.mean(), abs=1e-6)
        assert summary.figure("pooled_iou").value == pytest.approx(iou[1:].mean(), abs=1e-6)
        assert summary.figure("pooled_dice").value == pytest.approx(dice[1:].mean(), abs=1e-6)
        pairs = zip(summary.classes, iou, dice, strict=True)
        for entry, class_iou, class_dice in pairs:
            assert entry.figures[0].value == pytest.approx(class_iou, abs=1e-6)
            assert entry.figures[1].value == pytest.approx(class_dice, abs=1e-6)

    def test_patients_and_slices(self, classes: int) -> None:
        masks = self.masks(classes)
        summary = summarise(table_of(*masks, classes=tuple("abcd"[:classes])))
        iou = [self.scores(MulticlassJaccardIndex, guess, truth, classes) for _, guess, truth in masks]
        dice = [self.scores(MulticlassF1Score, guess, truth, classes)[1:].mean() for _, guess, truth in masks]
        assert summary.figure("patient_miou_mean").value == pytest.approx(np.mean(iou), abs=1e-6)
        assert summary.figure("patient_dice_mean").value == pytest.approx(np.mean(dice), abs=1e-6)
        assert summary.figure("patient_dice_median").value == pytest.approx(np.median(dice), abs=1e-6)
        pairs = [pair for _, guess, truth in masks for pair in zip(guess, truth, strict=True)]
        slices = [self.scores(MulticlassJaccardIndex, *pair, classes) for pair in pairs]
        # Each random slice holds every class, so the rules for empty slices do not matter here.
        assert summary.figure("slice_miou").value == pytest.approx(np.mean(slices), abs=1e-6)
        foreground = np.mean([score[1:] for score in slices])
        assert summary.figure("slice_iou_present").value == pytest.approx(foreground, abs=1e-6)
        assert summary.figure("slice_iou_empty_one").value == pytest.approx(foreground, abs=1e-6)
