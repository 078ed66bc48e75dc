"""`segkit tune`: what it measures, what it chooses, and that every later verb goes by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from segkit.data.layouts import find_cases
from segkit.data.split import Split
from segkit.errors import FileError, SegkitError
from segkit.inference.postprocess import LesionSize
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.session import Model
from segkit.inference.volume_rule import VolumeRule
from segkit.model_metadata import ModelMetadata
from segkit.runs import RunDirectory
from segkit.training.evaluate import scan_of
from segkit.workflow.evaluate_run import cases_for, open_subject
from segkit.workflow.tune import PLAIN, RULES, Trial, fair_for, tune
from tests.conftest import Run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunDirectory:
    """A copy of the run, to be changed."""
    return RunDirectory(Path(shutil.copytree(trained, tmp_path / "run")))


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """Of the voxels that are not background."""
    one, other = mask > 0, reference > 0
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_its_figures_are_those_of_segmenting_under_each_rule(run: RunDirectory, phantom: Path) -> None:
    trial = tune([run], data=str(phantom), device="cpu")
    case_set, cases, _ = cases_for(open_subject(run.path, "cpu", 4), str(phantom), "val")
    assert trial.patients == tuple(case.patient for case in cases)
    segmenter = Segmenter(Model.load(run.onnx, "cpu"))
    for rule in (*RULES[:: len(RULES) // 11], RULES[-1]):
        slicing = Slicing("auto", None, rule.flip, rule.smooth, rule.threshold, rule.min_lesion)
        by_hand = []
        for case in cases:
            scan, reference = scan_of(case_set, case)
            by_hand.append(dice(segmenter.segment(scan, slicing).mask, reference))
        np.testing.assert_allclose(trial.of(rule), by_hand, atol=1e-12, err_msg=str(rule))


def trial_of(means: dict[VolumeRule, float]) -> Trial:
    """Two patients, around 0.5 where nothing else is said."""
    rows = [[means.get(rule, 0.5) - 0.1, means.get(rule, 0.5) + 0.1] for rule in RULES]
    return Trial(("a", "b"), np.array(rows))


def test_the_best_mean_wins_and_of_equal_ones_the_rule_that_does_least() -> None:
    better = VolumeRule(False, 0.8, 0.3, LesionSize.parse("10%"))
    assert trial_of({}).chosen() == PLAIN
    assert trial_of({better: 0.51}).chosen() == better
    change, low, high = trial_of({better: 0.51}).gain(better)
    assert (change, low, high) == pytest.approx((0.01, 0.01, 0.01))


def test_mirrored_slices_have_to_earn_their_time() -> None:
    single, both = VolumeRule(False, 0.6), VolumeRule(True, 0.6)
    assert trial_of({single: 0.60, both: 0.604}).chosen() == single
    assert trial_of({single: 0.60, both: 0.606}).chosen() == both


def test_later_verbs_go_by_the_choice(segkit: Run, run: RunDirectory, phantom: Path, tmp_path: Path) -> None:
    done = segkit("tune", "run", "--data", phantom)
    assert done.returncode == 0, done.stderr
    assert "chosen: " in done.stdout
    written = json.loads(run.volume_rule.read_text())
    assert written["chosen_on"]["part"] == "val"
    metadata = ModelMetadata.from_props({prop.key: prop.value for prop in onnx.load(run.onnx).metadata_props})
    assert VolumeRule.of(metadata).as_metadata() == written["rule"]

    # A rule that leaves its mark, whatever was chosen:
    rule = VolumeRule(False, 1.0, 0.02)
    run.volume_rule.write_text(json.dumps({"rule": rule.as_metadata()}))
    figures = {}
    for name, words in {"with": [], "without": ["--by-slice"]}.items():
        done = segkit("evaluate", "run", "--data", phantom, "-o", f"{name}.json", *words)
        assert done.returncode == 0, done.stderr
        figures[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert figures["with"]["context"]["volumes"] == str(rule)
    assert figures["without"]["context"]["volumes"] == "each slice for itself"
    assert figures["with"]["patients"] != figures["without"]["patients"]
    done = segkit("export", "run", "--data", phantom)
    assert done.returncode == 0, done.stderr
    metadata = ModelMetadata.from_props({prop.key: prop.value for prop in onnx.load(run.onnx).metadata_props})
    assert VolumeRule.of(metadata) == rule


def test_the_choice_of_several_runs_goes_into_another(segkit: Run, run: RunDirectory, phantom: Path) -> None:
    other = Path(shutil.copytree(run.path, run.path.with_name("other")))
    done = segkit("tune", "run", "run", "--into", "other", "--data", phantom)
    assert done.returncode == 0, done.stderr
    assert not run.volume_rule.exists()
    assert json.loads((other / "volume.json").read_text())["chosen_on"]["runs"] == ["run", "run"]


def test_patients_that_a_run_is_judged_on_do_not_choose_for_it(segkit: Run, run: RunDirectory, phantom: Path) -> None:
    split = Split.load(run.split)
    mine, others = split.test, split.train[:2]
    fold = RunDirectory(Path(shutil.copytree(run.path, run.path.with_name("fold"))))
    rest = RunDirectory(Path(shutil.copytree(run.path, run.path.with_name("rest"))))
    Split((*split.train[2:], *mine), split.val, others, 0).save(rest.split)
    trial = tune([fold, rest], data=str(phantom), part="test", device="cpu")
    assert set(trial.patients) == {*mine, *others}
    for one, left in ((fold, others), (rest, mine)):
        fair = fair_for(one, trial)
        assert set(fair.patients) == set(left)
        np.testing.assert_array_equal(
            fair.of(PLAIN), [trial.of(PLAIN)[trial.patients.index(name)] for name in fair.patients]
        )
    done = segkit("tune", "fold", "rest", "--data", phantom, "--split", "test")
    assert done.returncode == 0, done.stderr
    written = [json.loads(one.volume_rule.read_text())["chosen_on"]["patients"] for one in (fold, rest)]
    assert written == [len(others), len(mine)]


def test_a_lone_run_is_not_tuned_on_its_own_test_patients(segkit: Run, run: RunDirectory, phantom: Path) -> None:
    done = segkit("tune", "run", "--data", phantom, "--split", "test")
    assert done.returncode == 2
    assert "may not choose for it" in done.stderr
    assert not run.volume_rule.exists()


def test_what_is_no_rule_is_refused(run: RunDirectory) -> None:
    run.volume_rule.write_text('{"rule": {"smooth": 1.0, "other": 2}}')
    with pytest.raises(FileError, match=r"volume\.json: holds no rule for volumes"):
        open_subject(run.path, "cpu", 4)


def test_single_slices_are_no_volumes(run: RunDirectory, phantom: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    for case in find_cases(phantom).cases:
        (lone / case.patient).mkdir(parents=True)
        for file in sorted((phantom / case.patient).iterdir())[:2]:
            shutil.copy(file, lone / case.patient)
    with pytest.raises(SegkitError, match="single slice"):
        tune([run], data=str(lone), device="cpu")
