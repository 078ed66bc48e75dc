"""The verbs as an unknown user without a home, in an image where only the working directory can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# A copy of the whole tree, read-only, with an empty /tmp and /dev/shm and the working directory at /mnt. The user may
# read all files, as a user of an image may; and owns none.
ENTER = """
set -e
root=$1 work=$2 code=$3; shift 3
mount --rbind / "$root"
points=$(findmnt -Rno TARGET "$root" | sort -r)
for point in $points; do mount -o remount,bind,ro "$point" 2>/dev/null || true; done
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
case $code in /tmp/*)  # the checkout itself lies there: show it again
    mkdir -p "$root$code"
    mount --bind "$code" "$root$code"
    mount -o remount,bind,ro "$root$code"
esac
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --bind "$work" "$root/mnt"
exec chroot "$root" setpriv --reuid 12345 --regid 12345 --clear-groups \
    --inh-caps=+dac_read_search --ambient-caps=+dac_read_search sh -c '
    cd /mnt; "$@"; code=$?
    find /tmp /dev/shm -user 12345 >&2
    exit $code' sh "$@"
"""
SERVE = """
import re, subprocess, sys, time, urllib.request
with open("serve.log", "wb") as log:
    words = [sys.executable, "-m", "segkit", "serve", "--port", "0", *sys.argv[1:]]
    server = subprocess.Popen(words, stdout=log, stderr=log)
try:
    for _ in range(600):
        found = re.search(r"http://127.0.0.1:[0-9]+/", open("serve.log").read())
        if found or server.poll() is not None:
            break
        time.sleep(0.1)
    scan = open("scan.tif", "rb").read()
    print(len(urllib.request.urlopen(urllib.request.Request(found[0] + "segment", data=scan), timeout=60).read()))
finally:
    server.terminate()
    server.wait(60)
"""


class Box:
    """Runs programs so; `work` is their working directory."""

    def __init__(self, folder: Path) -> None:
        self.root, self.work = folder / "root", folder / "work"
        self.root.mkdir()
        self.work.mkdir()
        os.chown(self.work, 12345, 12345)

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["unshare", "-m", "sh", "-c", ENTER, "sh", str(self.root), str(self.work), str(ROOT), *words]
        bare = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT), "SLURM_CPUS_PER_TASK": "1"}
        done = subprocess.run(
            command, env={**bare, **environment}, capture_output=True, text=True, timeout=600, check=False
        )
        if any(word in done.stderr for word in ("unshare failed", "setpriv:", "permission denied.", "findmnt: not")):
            pytest.skip(f"cannot make such an image here: {done.stderr.splitlines()[-1]}")
        return done

    def segkit(self, words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self(sys.executable, "-m", "segkit", *words.split(), **environment)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Box:
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("needs root on Linux")
    made = Box(tmp_path_factory.mktemp("box"))
    shutil.copytree(phantom, made.work / "data")
    shutil.copy(next((made.work / "data").glob("*/*_1.tif")), made.work / "scan.tif")
    return made


def test_an_unwritable_place_names_the_bind_to_add(box: Box) -> None:
    done = box.segkit("data phantom /usr/phantom", APPTAINER_CONTAINER="/segkit.sif")
    assert done.returncode == 2
    assert done.stderr == (
        "segkit: /usr/phantom: cannot be written (/usr is read-only: the container's image); choose a folder you can "
        "write to; or bind one there: apptainer run --bind HOST_FOLDER:/usr\n"
    )


JOBS = (
    "train --data data --model unet --width 4 --batch 4 --epochs 1 --loader files --workers 1 --run runs/a",
    "evaluate runs/a --split val",
    "export runs/a -o model.onnx",
    "segment scan.tif --model runs/a -o out --overlay",
    "report runs/a",
    "profile --data data --model unet --width 4 --batch 4 --seconds 0.3 --counts 0",
    "bench infer runs/a --seconds 0.1 --rounds 1 --batch 1 --threads 1",
)


@pytest.mark.slow
def test_every_verb_works_there_and_writes_nothing_elsewhere(box: Box) -> None:
    """The tree is read-only: what worked wrote nothing there. What it left in /tmp is printed by the box."""
    for words in JOBS:
        done = box.segkit(words)
        assert done.returncode == 0, (words, done.stderr)
        assert "/tmp" not in done.stderr, words
        assert "temporary cache directory" not in done.stderr, words
    done = box(sys.executable, "-c", SERVE, "--model", "runs/a")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
    assert "/tmp" not in done.stderr
    made = {path.name for path in box.work.iterdir()}
    assert made == {"data", "scan.tif", "runs", "model.onnx", "out", "serve.log"}


@pytest.mark.slow
def test_a_home_folder_that_could_be_written_is_not(box: Box) -> None:
    home = box.work / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    train = "train --data data --model unet --width 4 --batch 4 --steps 2 --run runs/b"
    for words in (train, "segment scan.tif --model runs/b -o out2"):
        done = box.segkit(words, HOME="/mnt/home", SEGKIT_CACHE="/mnt/cache")
        assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
    shutil.rmtree(home)
