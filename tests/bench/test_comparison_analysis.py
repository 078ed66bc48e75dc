"""What the report concludes, where the truth is known."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from segkit.bench.effects import Effects
from segkit.bench.findings import AGREES, DIFFERS, UNCLEAR, findings
from segkit.bench.findings_tables import tables
from segkit.bench.gains import ablations
from segkit.bench.pareto import on_front
from segkit.bench.scaling import fit
from segkit.bench.study import Study
from tests.bench.made import comparison, row


def study(flags: dict[str, object] | None = None, **settings: str) -> Study:
    return Study.load(None, settings, flags or {})


def test_a_slow_round_is_no_effect_and_the_interval_holds_the_truth() -> None:
    """Cell B is 1.2 times as fast as A; the machine drifts by a third; the noise is 3 %."""
    made = study({"repeats": 4}, workers="0,1")
    covered, random = 0, np.random.default_rng(1)
    for _ in range(200):
        rows = [
            row(made, {"workers": w}, r, 100 * (1.2 if w else 1) * (1 - 0.1 * r) * math.exp(random.normal(0, 0.03)))
            for r, w in product(range(4), (0, 1))
        ]
        ratio = Effects.of(rows).ratio(rows[1].cell, rows[0].cell)
        assert ratio is not None
        assert ratio.low is not None
        assert ratio.high is not None
        covered += ratio.low <= 1.2 <= ratio.high
    assert 180 <= covered <= 199  # 190 are expected


def test_a_cell_that_failed_in_one_round_is_compared_within_the_others() -> None:
    """Without the rounds in the model, the missing fast round would make A look slower than B."""
    made = study(workers="0,1,2")
    speed = [100.0, 50.0, 50.0]
    rows = [
        row(made, {"workers": w}, r, None if (w, r) == (0, 0) else speed[r]) for w, r in product((0, 1, 2), range(3))
    ]
    ratio = Effects.of(rows).ratio(rows[0].cell, rows[3].cell)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.0)


def test_the_scaling_model_finds_a_machine_that_obeys_it() -> None:
    made = study(model="unet,fcn", gpus="1,2,4", batch="16")
    bandwidth, latency, size = 2e9, 0.002, {"unet": 31e6, "fcn": 15e6}
    compute = {"unet": 0.1, "fcn": 0.06}

    def rate(model: str, n: int) -> float:
        seconds = compute[model] + 2 * (n - 1) / n * 4 * size[model] / bandwidth + latency * math.log2(n)
        return 16 * n / seconds

    rows = [
        row(made, {"model": m, "gpus": n, "batch": 16}, 0, rate(m, n), parameters=int(size[m]))
        for m, n in product(compute, (1, 2, 4))
    ]
    found = fit(comparison(made, rows))
    assert found is not None
    assert found.bandwidth == pytest.approx(bandwidth, rel=1e-3)
    assert found.latency == pytest.approx(latency, rel=1e-3)
    curve = found.curves[0]
    assert [(p.ranks, p.predicted) for p in curve.points] == [(1, False), (2, False), (4, False)] + [
        (n, True) for n in (8, 16, 32)
    ]
    assert curve.points[-1].modelled.value == pytest.approx(rate("unet", 32), rel=1e-3)
    assert curve.points[1].efficiency == pytest.approx(rate("unet", 2) / rate("unet", 1) / 2)


def test_shared_cores_are_not_taken_for_communication() -> None:
    """Two ranks on one core: each computes half as fast, nothing is exchanged, so no rate is gained anywhere."""
    made = study(gpus="1,2")
    rows = [row(made, {"gpus": n}, 0, 100.0, device="cpu") for n in (1, 2)]
    found = fit(comparison(made, rows))
    assert found is not None
    assert found.shared
    assert [p.modelled.value for p in found.curves[0].points] == pytest.approx([100.0] * 3)


def epoch_rates(made: Study, rates: dict[tuple[int, int], float]) -> list[tuple[str, int]]:
    rows = [row(made, {"gpus": n, "workers": w}, r, v * (1 + 0.001 * r)) for (n, w), v in rates.items() for r in (0, 1)]
    return [(answer.agrees, i) for i, f in enumerate(findings(comparison(made, rows)), 1) for answer in f.answers]


def test_the_findings_of_the_study_itself_are_agreed_with() -> None:
    made = study({"repeats": 2}, gpus="1,2,4", workers="0,4,8")
    rates = {(1, 0): 100, (2, 0): 200, (4, 0): 150, (1, 4): 90, (2, 4): 150, (4, 4): 300}
    rates |= {(1, 8): 80, (2, 8): 140, (4, 8): 250}
    answers = epoch_rates(made, {key: float(value) for key, value in rates.items()})
    assert (DIFFERS, 1) in answers  # of the three worker counts, 0 gets slower on 4
    assert [word for word, i in answers if i == 2] == [AGREES]
    assert [word for word, i in answers if i == 3] == [AGREES, AGREES]
    assert (AGREES, 4) in answers


def test_another_machine_differs() -> None:
    made = study({"repeats": 2}, gpus="1,2,4", workers="0,4")
    answers = epoch_rates(made, {(n, w): 100.0 * n * (1 + w) for n in (1, 2, 4) for w in (0, 4)})
    assert [word for word, i in answers if i == 2] == [DIFFERS]  # 4 are faster again
    assert {word for word, i in answers if i == 4} == {DIFFERS}


def test_without_repeats_nothing_is_judged() -> None:
    """Within one training the rate is steady to 2 %; that says nothing about the next training."""
    made = study(gpus="1,2", workers="0,2")
    rows = [row(made, {"gpus": n, "workers": w}, 0, 100.0 + w) for n in (1, 2) for w in (0, 2)]
    found = findings(comparison(made, rows))
    assert {answer.agrees for finding in found for answer in finding.answers} == {UNCLEAR}


def test_what_the_comparisons_have_in_common_is_said_once_and_each_stands_in_a_table() -> None:
    """Twice as fast on 2 ranks with U-Net, 1.25 times with FCN: 0.5 and 0.8 of the time, 0.63 in the mean."""
    made = study({"repeats": 3}, model="unet,fcn", gpus="1,2", workers="0")
    speed = {("unet", 1): 100.0, ("unet", 2): 200.0, ("fcn", 1): 160.0, ("fcn", 2): 200.0}
    rows = [row(made, {"model": m, "gpus": n, "workers": 0}, r, v) for (m, n), v in speed.items() for r in range(3)]
    found = findings(comparison(made, rows))
    (said,) = found[0].said
    assert said.startswith(
        "With 2 ranks training takes 0.63 times as long as with 1 rank on average (0.50 to 0.80 in 2)"
    )
    assert "4 ranks were not measured" in found[1].verdict
    (over_ranks,) = tables(comparison(made, rows), found)
    assert over_ranks.head == ["net", "1 rank", "2 ranks", "last / first", "falls", "halves"]
    unet = next(line for line in over_ranks.rows if line[0].startswith("U-Net"))
    assert [float(text.split(" ")[0]) for text in unet[1:4]] == [10.0, 5.0, 0.5]
    assert unet[4:] == ["yes", "unclear"]


def test_what_was_not_measured_is_not_answered() -> None:
    made = study(workers="0")
    found = findings(comparison(made, [row(made, {"workers": 0}, 0, 10.0)]))
    assert all(not finding.answers and "Not tested here" in finding.verdict for finding in found)


def test_gains_alone_in_turn_and_in_company() -> None:
    """Packed doubles the rate only without compile; compile gives 1.5 times either way."""
    made = study({"techniques": "loader=packed,compile=on", "repeats": 2})
    rates = {("files", False): 10.0, ("packed", False): 20.0, ("files", True): 15.0, ("packed", True): 15.0}
    rows = [
        row(made, dict(cell.settings), r, rates[str(cell.value("loader")), bool(cell.value("compile"))])
        for cell in made.cells()
        for r in (0, 1)
    ]
    packed, compiled = ablations(comparison(made, rows))[0].gains
    assert [g.value for g in (packed.alone, packed.added, packed.removed) if g] == pytest.approx([2.0, 2.0, 1.0])
    assert [g.value for g in (compiled.alone, compiled.added, compiled.removed) if g] == pytest.approx(
        [1.5, 0.75, 0.75]
    )


def test_the_pareto_front() -> None:
    assert on_front([(0.8, 10), (0.9, 5), (0.7, 9), (0.8, 10), (0.9, 4)]) == [True, True, False, True, False]
