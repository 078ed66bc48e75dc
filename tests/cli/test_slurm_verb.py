"""`segkit slurm`, without a cluster: what the scripts say, to bash and to a reader. tests/cluster submits them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from segkit.cluster.config import JobConfig
from segkit.cluster.templates import TEMPLATES
from tests.conftest import ROOT, Run

SCRIPTS = ROOT / "apptainer" / "slurm"
HOSTILE = 'it\'s $(touch pwned) `touch pwned` "quoted" \\ #1; * & | <x> é'


def settings(script: str, *arguments: str) -> dict[str, list[str]]:
    """What bash makes of the settings of a script, with words typed behind its name."""
    head = script[: script.index("# --- what all jobs share")]
    show = 'for name in image run list output port; do printf "%s\\0" "$name" "${!name-}" END; done; '
    show += 'printf "%s\\0" arguments "${arguments[@]}" END'
    done = subprocess.run(["bash", "-c", head + show, "job", *arguments], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for block in done.stdout.removesuffix("END\0").split("END\0"):
        name, *values = block.removesuffix("\0").split("\0")
        found[name] = values
    return found


def test_the_files_in_apptainer_are_what_the_package_writes() -> None:
    assert {path.name for path in SCRIPTS.iterdir()} == set(TEMPLATES)
    for name, script in TEMPLATES.items():
        assert (SCRIPTS / name).read_text("utf-8") == script.text(JobConfig()), (
            f"{name}: write it again with python -m segkit.cluster.templates apptainer/slurm"
        )


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs Debian's shellcheck")
def test_shellcheck_finds_nothing(segkit: Run, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("scan.tif\n")
    written = [
        segkit("slurm", verb, *words, "--image", HOSTILE).stdout
        for verb, words in (
            ("train", ("--data", HOSTILE, "--stage", "--setup", "module load apptainer")),
            ("multinode", ("--gpus", "4")),
            ("segment", ("list", "--model", HOSTILE, "--output", HOSTILE)),
            ("serve", ("--model", HOSTILE)),
        )
    ]
    for number, text in enumerate(written):
        assert text.startswith("#!/bin/bash\n#SBATCH ")
        (tmp_path / f"{number}.sbatch").write_text(text)
    files = [*SCRIPTS.iterdir(), *tmp_path.glob("*.sbatch"), *(ROOT / "tests" / "cluster").glob("slurm_*.sh")]
    checked = subprocess.run(["shellcheck", *map(str, files)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_words_reach_segkit_as_they_were_typed(segkit: Run, tmp_path: Path) -> None:
    (tmp_path / HOSTILE.replace("/", "")).write_text("scan.tif\n")
    train = segkit("slurm", "train", "--data", HOSTILE, "--run", HOSTILE, "--image", f"/{HOSTILE}", "--lr", "0.01")
    found = settings(train.stdout, "--epochs", HOSTILE)
    assert found["arguments"] == [f"--data={HOSTILE}", "--lr=0.01", "--epochs", HOSTILE]
    assert (found["run"], found["image"]) == ([HOSTILE], [f"/{HOSTILE}"])
    masks = segkit("slurm", "segment", HOSTILE, "--model", HOSTILE, "--overlay", "--output", HOSTILE)
    found = settings(masks.stdout)
    assert (found["arguments"], found["list"]) == (["--model", HOSTILE, "--overlay"], [HOSTILE])
    assert found["output"] == [HOSTILE]
    assert settings(segkit("slurm", "serve", "--model", HOSTILE).stdout)["arguments"] == [f"--model={HOSTILE}"]
    assert not (tmp_path / "pwned").exists()


def options(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def test_what_is_asked_of_slurm_follows_from_the_flags(segkit: Run) -> None:
    words = ("--gpus=4", "--cpus=32", "--time=1-12", "--partition=a100", "--account=neuro", "--mem=200G", "--grace=300")
    asked = options(segkit("slurm", "multinode", *words, "--nodes=3", "--sbatch=--qos=long --exclude='n 7'").stdout)
    for option in (
        "--nodes=3", "--ntasks-per-node=1", "--gpus-per-node=4", "--cpus-per-task=32", "--time=1-12",
        "--partition=a100", "--account=neuro", "--mem=200G", "--signal=B:USR1@300",
        "--requeue", "--open-mode=append", "--qos=long",
        '"--exclude=n 7"',
    ):  # fmt: skip
        assert option in asked
    on_cpu = options(segkit("slurm", "train", "--device=cpu", "--gpus=2").stdout)
    assert not [option for option in on_cpu if "gpu" in option]
    assert options(segkit("slurm", "train").stdout).count("--gpus-per-node=1") == 1


def test_inside_an_image_the_job_runs_in_the_same_one(segkit: Run) -> None:
    shown = segkit("slurm", "train", APPTAINER_CONTAINER="/images/a segkit.sif").stdout
    assert settings(shown)["image"] == ["/images/a segkit.sif"]


def test_mistakes_are_one_line_on_the_login_node(segkit: Run, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("scan.tif\n")
    for words, told in (
        (("train", "--time=3days"), "time = '3days': allowed is minutes"),
        (("train", "--loader=fast"), "loader = 'fast': allowed is one of files, packed, resident"),
        (("train", "--name=a\nb"), "a text of one line"),
        (("train", "--sbatch=--qos='x"), "sbatch = "),
        (("train", "--log=nowhere/x.log", "--submit"), "nowhere: is not a folder: the job would end at once"),
        (("segment", "nolist", "--model=x"), "nolist: is not a file"),
        (("segment", "list", "--modle=x"), "flag = '--modle=x'"),
        (("serve", "--port=99999"), "port = 99999"),
    ):
        done = segkit("slurm", *words, PATH="/usr/bin:/bin")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert told in done.stderr
    refused = segkit("slurm", "train", "--submit", PATH="/nonexistent")
    assert "sbatch is not there" in refused.stderr


def test_a_sweep_becomes_an_array_for_each_number_of_gpus(segkit: Run, phantom: Path, tmp_path: Path) -> None:
    words = ("--model=unet,fcn", "--gpus=1,2", "--device=cuda", "--repeats=1", "--cpus=4", "--time=30")
    shown = segkit("slurm", "sweep", "-o", "a study", f"--data={phantom}", *words)
    lines = shown.stdout.splitlines()[-3:]
    assert "afterany:${job0%%;*}:${job1%%;*}" in lines[2]
    for gpus in (1, 2):
        asked = options((tmp_path / "a study" / f"array-{gpus}gpu.sbatch").read_text())
        assert f"--gpus-per-node={gpus}" in asked
        assert len([option for option in asked if option.startswith("--array=")]) == 1
    gather = (tmp_path / "a study" / "gather.sbatch").read_text()
    assert "--cpus-per-task=1" in options(gather)
    assert settings(gather)["arguments"] == [f"--output={tmp_path / 'a study'}", "--gather"]


def test_every_flag_of_training_is_one_of_the_job(segkit: Run) -> None:
    def flags(*words: str) -> set[str]:
        shown = segkit(*words, "--help", COLUMNS="300", TERM="dumb").stdout
        return set(re.findall("--[a-z][a-z0-9-]*", shown))

    own = {"--resume", "--run-dir", "--rendezvous", "--nodes"}  # which the job itself sets
    assert flags("train") - own <= flags("slurm", "train") | {"--no-stage"}
