"""What is said of a place that cannot be written, where the system itself refuses."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segkit.container import bind, runtime
from segkit.errors import FileError
from segkit.unwritable import line_for, nearest_folder, unwritable
from tests.conftest import ROOT

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


def mounted(options: str, program: str, folder: Path, **environment: str) -> str:
    """What a Python program says with a file system of these options mounted at `folder`."""
    folder.mkdir()
    words = f'mount -t tmpfs -o {options} tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", words, "sh", str(folder), sys.executable, program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("may not mount here")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WRITE = """
import sys
from pathlib import Path
from segkit.errors import SegkitError
from segkit.files import atomic_path
try:
    with atomic_path(Path(sys.argv[1], "new", "file.bin")) as path:
        path.write_bytes(bytes(3_000_000))
except SegkitError as error:
    print(error)
print(sorted(path.name for path in Path(sys.argv[1]).rglob("*") if path.is_file()))
"""


@as_root
def test_a_read_only_image_names_the_bind(tmp_path: Path) -> None:
    said = mounted("ro", WRITE, tmp_path / "image", APPTAINER_CONTAINER="/x.sif")
    assert f"{tmp_path}/image is read-only: the container's image" in said
    assert f"apptainer run --bind HOST_FOLDER:{tmp_path}/image" in said


@as_root
def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path: Path) -> None:
    said = mounted("size=1m", WRITE, tmp_path / "small")
    assert "no space is left" in said
    assert "free some space" in said
    assert said.endswith("[]")


CHECKPOINT = """
import sys, torch
from pathlib import Path
from segkit.errors import SegkitError
from segkit.training.checkpoint import save_checkpoint
try:
    save_checkpoint(Path(sys.argv[1], "last.pt"), {"weights": torch.zeros(10**7)})
except SegkitError as error:
    print(error)
print(list(Path(sys.argv[1]).iterdir()))
"""


@as_root
def test_a_checkpoint_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    said = mounted("size=4m", CHECKPOINT, tmp_path / "small").splitlines()
    assert "no space is left" in said[0]
    assert said[1] == "[]"


def test_another_s_folder_names_its_owner(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom segkit.files import write_text\n"
        "from segkit.errors import SegkitError\nos.setuid(12345)\n"
        "try: write_text(Path(sys.argv[1], 'x'), '')\n"
        "except SegkitError as error: print(error)"
    )
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    target = Path("/usr/x-of-another")
    words = [sys.executable, "-c", program, str(target)]
    done = subprocess.run(words, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "/usr belongs to user 0, this is user 12345" in done.stdout


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_what_the_surroundings_refuse_is_one_line(tmp_path: Path, code: int) -> None:
    told = line_for(OSError(code, os.strerror(code), str(tmp_path / "file")))
    assert isinstance(told, FileError)
    assert str(tmp_path / "file") in str(told)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "No such file", "x"), OSError("odd"), OSError(5, "io")]
)
def test_a_bug_stays_a_bug(error: OSError) -> None:
    assert line_for(error) is None


def test_no_temporary_folder_is_one_line(tmp_path: Path) -> None:
    told = line_for(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"))
    assert "set TMPDIR" in str(told)


def test_the_nearest_folder_exists(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert nearest_folder(tmp_path / "file" / "b") == tmp_path
    said = str(unwritable(tmp_path / "a", PermissionError(errno.EACCES, "Permission denied"), "do that"))
    assert said.startswith(f"{tmp_path}/a: cannot be written (")
    assert "do that" in said


@pytest.mark.parametrize(
    ("mark", "kind"), [(".singularity.d/", "apptainer"), (".dockerenv", "docker"), ("run/.containerenv", "podman")]
)
def test_runtimes_are_known_by_their_marks(tmp_path: Path, mark: str, kind: str) -> None:
    assert runtime(tmp_path, {}) == ""
    path = tmp_path / mark
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if mark.endswith("/") else path.touch()
    assert runtime(tmp_path, {}) == kind
    assert str(tmp_path) in bind(tmp_path, kind)


def test_apptainer_is_known_by_its_variable_too(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()  # an image that came from Docker
    assert runtime(tmp_path, {"APPTAINER_CONTAINER": "/x.sif"}) == "apptainer"
