from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from segkit.caches import COMPILED
from tests.conftest import ROOT

PROGRAM = """
import os, sys
from pathlib import Path
from segkit.caches import DRAWN, keep_compiled_in, keep_fonts_in
keep_compiled_in(Path("cache"))
keep_fonts_in(Path("cache"))
import matplotlib
matplotlib.get_cachedir()
print(matplotlib.get_cachedir())
print(*[os.environ[name] for name in sys.argv[1:]], sep="\\n")
"""


def run(folder: Path, **environment: str) -> list[str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *COMPILED],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert list(home.rglob("*")) == []
    return done.stdout.splitlines()


def test_with_no_cache_yet_the_fonts_go_to_a_folder_that_ends_with_the_process(tmp_path: Path) -> None:
    fonts, *compiled = run(tmp_path)
    assert not Path(fonts).exists()
    assert compiled == [str(tmp_path / "cache" / name) for name in COMPILED.values()]
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_is_there_is_used(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    assert run(tmp_path)[0] == str(tmp_path / "cache" / "matplotlib")


def test_a_chosen_cache_is_made(tmp_path: Path) -> None:
    assert run(tmp_path, SEGKIT_CACHE=str(tmp_path / "mine"))[0] == str(tmp_path / "mine" / "matplotlib")


def test_what_the_user_set_stays(tmp_path: Path) -> None:
    (tmp_path / "fonts").mkdir()
    fonts, inductor, *_ = run(tmp_path, MPLCONFIGDIR=str(tmp_path / "fonts"), TORCHINDUCTOR_CACHE_DIR="/x")
    assert (fonts, inductor) == (str(tmp_path / "fonts"), "/x")
