"""The images and the unprivileged user of the tests in this folder: how they are made, and how they are run."""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
from pathlib import Path

from tests.conftest import ROOT

HERE = Path(__file__).parent
WORK = Path(os.environ.get("SEGKIT_CLUSTER", "/var/tmp/segkit-cluster"))
USER = "segkit-test"
# What goes into an image, or says how.
SOURCES = (
    *("segkit", "docker/Dockerfile", "docker/install.sh", "docker/requirements.py", "docker/healthcheck.py"),
    *("docker/segkit.sh", "apptainer/segkit.def", "pyproject.toml", "constraints.txt"),
    *("tests/cluster/lib.sh", "tests/cluster/base.sh", "tests/cluster/image.sh", "tests/cluster/definition.sh"),
)


def script(name: str, *arguments: str) -> None:
    """Run a script of this folder; its output is shown where it fails."""
    done = subprocess.run([HERE / name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{name}: {done.stdout[-4000:]}"
    print(done.stdout[-400:])


def built(name: str, how: str, *arguments: str) -> Path:
    """$WORK/NAME.sif, built by the script `how` unless it is there and made from what the checkout holds now."""
    if not (WORK / "base.tar").exists():
        script("base.sh")
    sif, stamp = WORK / f"{name}.sif", WORK / f"{name}.stamp"
    digest = hashlib.sha256(" ".join([how, *arguments]).encode())
    for top in SOURCES:
        path = ROOT / top
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    if not sif.exists() or not stamp.exists() or stamp.read_text() != digest.hexdigest():
        stamp.unlink(missing_ok=True)
        script(how, name, *arguments)
        stamp.write_text(digest.hexdigest())
    return sif


def give(path: Path) -> None:
    """Hand a file or a folder with all it holds over to the unprivileged user."""
    entry = pwd.getpwnam(USER)
    for each in (path, *path.rglob("*")):
        os.chown(each, entry.pw_uid, entry.pw_gid)


def as_user(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of the unprivileged user, with nothing in its environment but what is given."""
    return subprocess.run(
        [*user_command(), *map(str, command)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def user_command() -> list[str]:
    """What makes the command after it the unprivileged user's."""
    entry = pwd.getpwnam(USER)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


SHUT = ("--contain", "--cleanenv", "--no-home", "--net", "--network", "none")


def apptainer(
    verb: str, sif: Path, *words: object, folder: Path, options: tuple[str, ...] | None = None
) -> subprocess.CompletedProcess[str]:
    """`apptainer VERB SIF WORDS` of a user without a home, with no network and nothing of the host but `folder`.

    `options` take the place of those that show `folder` to the container as its working directory, /data.
    """
    shown = ("--bind", f"{folder}:/data", "--pwd", "/data") if options is None else options
    return as_user("apptainer", "--silent", verb, *SHUT, *shown, sif, *words, cwd=folder)
