"""Splits: nobody in two parts, everybody in one, institutions shared out, the same everywhere."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from segkit.data.cases import Case
from segkit.data.split import PARTS, Split, k_folds, make_split
from segkit.errors import ConfigError, FileError, SegkitError

LGG = {"DU": 45, "HT": 33, "CS": 16, "FG": 14, "EZ": 2}  # institutions of the published set


def cases_of(sizes: dict[str, int]) -> list[Case]:
    return [
        Case(f"TCGA_{key}_{number:04}", key, (), (256, 256), None)
        for key, size in sizes.items()
        for number in range(size)
    ]


def parts_of(split: Split) -> list[tuple[str, ...]]:
    return [getattr(split, part) for part in PARTS]


def by_institution(names: tuple[str, ...]) -> Counter[str]:
    return Counter(name.split("_")[1] for name in names)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "sizes",
    [LGG, {"": 10}, {"A": 1, "B": 1, "C": 1}, {"A": 40, "B": 2, "C": 2, "D": 2, "E": 2}, {"A": 7, "B": 3}],
    ids=["lgg", "one", "three", "small", "two"],
)
class TestAnySplit:
    def test_everybody_is_in_exactly_one_part(self, sizes: dict[str, int], seed: int) -> None:
        split = make_split(cases_of(sizes), seed=seed)
        names = [name for part in parts_of(split) for name in part]
        assert sorted(names) == sorted(case.patient for case in cases_of(sizes))
        assert all(part and list(part) == sorted(part) for part in parts_of(split))

    def test_sizes_are_the_rounded_proportions(self, sizes: dict[str, int], seed: int) -> None:
        total = sum(sizes.values())
        sizes_of_parts = [len(part) for part in parts_of(make_split(cases_of(sizes), seed=seed))]
        for size, fraction in zip(sizes_of_parts, (0.7, 0.15, 0.15), strict=True):
            assert abs(size - total * fraction) < 1 or total < 10

    def test_institutions_get_their_share_of_each_part(self, sizes: dict[str, int], seed: int) -> None:
        split = make_split(cases_of(sizes), seed=seed)
        total = sum(sizes.values())
        for part in parts_of(split):
            for key, size in sizes.items():
                assert abs(by_institution(part)[key] - size * len(part) / total) < 2

    def test_the_order_of_the_cases_does_not_matter(self, sizes: dict[str, int], seed: int) -> None:
        cases = cases_of(sizes)
        random.Random(seed).shuffle(cases)
        assert make_split(cases, seed=seed) == make_split(cases_of(sizes), seed=seed)


def test_small_institutions_do_not_all_land_in_train() -> None:
    sizes = {"A": 40, "B": 2, "C": 2, "D": 2, "E": 2}
    for seed in range(20):
        split = make_split(cases_of(sizes), seed=seed)
        assert any(by_institution(part)[key] for part in (split.val, split.test) for key in "BCDE")


def test_the_split_of_the_published_set_never_changes() -> None:
    # Written down once: another platform or version must come to the same patients.
    split = make_split(cases_of(LGG), seed=0)
    assert [len(part) for part in parts_of(split)] == [77, 17, 16]
    assert split.sha256 == "c12334a02171b3b9a2544bfc532994d752f2427f90355195059657a64ee03695"
    assert make_split(cases_of(LGG), seed=1).sha256 != split.sha256


def test_the_checksum_is_of_the_sorted_lists() -> None:
    # printf '{"test":["c"],"train":["a","b"],"val":["d"]}' | sha256sum
    expected = "4373e7b68461642861993fb265b60860023b69dc259e33b750585c7f0c04f137"
    assert Split(("a", "b"), ("d",), ("c",), seed=3).sha256 == expected
    assert Split(("b", "a"), ("d",), ("c",), seed=4).sha256 == expected


@pytest.mark.parametrize("k", [2, 3, 5, 10])
def test_each_patient_is_tested_in_one_fold(k: int) -> None:
    folds = k_folds(cases_of(LGG), k, seed=1)
    everybody = sorted(case.patient for case in cases_of(LGG))
    assert sorted(name for fold in folds for name in fold.test) == everybody
    for fold in folds:
        assert sorted(name for part in parts_of(fold) for name in part) == everybody
        assert abs(len(fold.val) - 0.15 * (110 - len(fold.test))) < 1
        for key, size in LGG.items():
            assert abs(by_institution(fold.test)[key] - size / k) < 1
    assert len({fold.sha256 for fold in folds}) == k


def test_leave_one_out() -> None:
    assert [len(part) for part in parts_of(k_folds(cases_of({"": 3}), 3)[0])] == [1, 1, 1]


@pytest.mark.parametrize("fractions", [(0.7, 0.3, 0.0), (0.5, 0.5), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_that_are_none(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="fractions"):
        make_split(cases_of(LGG), fractions=fractions)


def test_too_few_patients() -> None:
    with pytest.raises(SegkitError, match="at least 3 patients"):
        make_split(cases_of({"A": 2}))
    with pytest.raises(ConfigError, match="folds"):
        k_folds(cases_of({"A": 2}), 5)
    with pytest.raises(SegkitError, match="too few"):
        k_folds(cases_of({"A": 3}), 2)


class TestFile:
    def test_comes_back_as_it_was_saved(self, tmp_path: Path) -> None:
        split = make_split(cases_of(LGG), seed=7)
        split.save(tmp_path / "split.json")
        assert Split.load(tmp_path / "split.json") == split

    def test_an_edited_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "split.json"
        make_split(cases_of(LGG)).save(path)
        value = json.loads(path.read_text())
        value["train"].append(value["test"].pop())
        path.write_text(json.dumps(value))
        with pytest.raises(FileError, match="changed after it was written"):
            Split.load(path)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("[]", "is no split"),
            ('{"train": ["a"], "val": ["b"]}', "is no split"),
            ('{"train": ["a"], "val": ["b"], "test": [3]}', "is no split"),
            ('{"train": ["a"], "val": ["b"], "test": ["a"]}', "two places: a"),
            ("{", "is not JSON"),
        ],
    )
    def test_other_files_are_refused(self, tmp_path: Path, text: str, reason: str) -> None:
        path = tmp_path / "split.json"
        path.write_text(text)
        with pytest.raises(FileError, match=reason):
            Split.load(path)
