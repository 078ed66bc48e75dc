from __future__ import annotations

from pathlib import Path

import pytest

from segkit.bench.study import Study
from segkit.errors import ConfigError, SegkitError


def study(flags: dict[str, object] | None = None, **settings: str) -> Study:
    return Study.load(None, settings, flags or {}).checked()


def test_a_grid_is_every_combination_once() -> None:
    cells = study(model="unet,fcn", gpus="1,2", loader="files,resident", workers="0,1").cells()
    seen = {(c.value("model"), c.value("gpus"), c.value("loader"), c.value("workers")) for c in cells}
    # A resident loader has no workers: its two cells mean the same, and are one.
    assert len(cells) == len(seen) == 2 * 2 * 3


def test_every_round_has_each_cell_once_in_an_order_of_its_own() -> None:
    made = study({"repeats": 3}, model="unet,fcn,segnet", workers="0,1,2")
    order = [m.cell.id for m in made.plan()]
    rounds = [order[i : i + 9] for i in range(0, 27, 9)]
    assert len({frozenset(one) for one in rounds}) == 1
    assert len(set(rounds[0])) == 9
    assert rounds[0] != rounds[1] != rounds[2]
    assert order == [m.cell.id for m in made.plan()]


def test_the_global_batch_is_shared_and_the_rank_batch_is_not() -> None:
    shared = study({"hold": "global"}, batch="8", gpus="1,2,4").cells()
    assert [c.value("batch") for c in shared] == [8, 4, 2]
    assert [c.value("batch") for c in study({"hold": "rank"}, batch="8", gpus="1,2,4").cells()] == [8, 8, 8]
    with pytest.raises(ConfigError, match="multiple of the 2 ranks"):
        study({"hold": "global"}, batch="7", gpus="2")


def test_a_study_reads_what_it_writes(tmp_path: Path) -> None:
    made = study({"repeats": 2}, model="all", compile="on,off", lr="0.001,0.01", data='a "b"')
    (tmp_path / "s.toml").write_text(made.to_toml(), encoding="utf-8")
    assert Study.load(tmp_path / "s.toml", {}, {}) == made
    assert made.axes["model"] == ["unet", "fcn", "segnet"]
    assert made.axes["compile"] == [True, False]


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[study]\nrepeats = 5\n[settings]\nworkers = [0, 1]\nwidth = 8\n", "utf-8")
    made = Study.load(tmp_path / "s.toml", {"workers": "3"}, {"hold": "global"})
    assert (made.config.repeats, made.config.hold) == (5, "global")
    assert made.settings == {"workers": 3, "width": 8}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"workers": "0,x"}, "workers = 'x'"),
        ({"compile": "perhaps"}, "on or off"),
        ({"precision": "fp32,fp8"}, "one of auto, fp32, bf16, fp16"),
        ({"size": "33"}, "multiple of 32"),
        ({"export": "on"}, "export"),
    ],
)
def test_a_bad_value_is_refused_before_anything_starts(settings: dict[str, str], told: str) -> None:
    with pytest.raises(SegkitError, match=told):
        study(**settings)


def test_an_ablation_adds_one_after_another_and_takes_each_away() -> None:
    made = study({"techniques": "loader=packed,channels_last=on,fused=on"}, model="unet")
    sets = {(c.value("loader"), c.value("channels_last"), c.value("fused")) for c in made.cells()}
    assert sets == {(p, c, f) for p in ("files", "packed") for c in (True, False) for f in (True, False)}
    assert all(c.value("precision") == "fp32" and c.value("workers") == 0 for c in made.cells())
    four = study({"techniques": "loader=packed,channels_last=on,fused=on,compile=on"}).cells()
    assert len(four) == 1 + 4 + 3 + 3  # plain; in turn; alone; all but one
