"""One run made by hand for each verdict, at both sides of the boundary."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segkit.profiling.advice import ADVICE, KINDS
from segkit.profiling.records import DeviceInfo
from segkit.profiling.summary import DeviceSummary, Interval, RunSummary, Straggler
from segkit.profiling.verdict import STALL_WORDS, decide, without, workers_to_hide
from tests.profiling.made import host_summary, rank_summary, run_summary


def kind_of(summary: RunSummary) -> str:
    verdict = decide(summary)
    assert verdict is not None
    assert verdict.title == KINDS[verdict.kind]
    return verdict.kind


def starved(seconds: float, *, workers: int | None, cpu_share: float = 0.9, **host: float) -> RunSummary:
    hosts = [host_summary(**host)]  # type: ignore[arg-type]
    return replace(run_summary(workers, starved=seconds), wait_cpu_share=cpu_share, hosts=hosts)


def slow_rank(cost: float, **seconds: float) -> RunSummary:
    """Rank 1 of two costs the other a share of its time."""
    ranks = [
        rank_summary(0, step_s=1.0, starved_s=0.02, sync_s=cost + 0.01),
        rank_summary(1, step_s=1.0, starved_s=0.02 + cost, sync_s=0.01),
    ]
    straggler = Straggler(1, "node1", cost, "loader", "Rank 1 on node1 holds the others back.")
    return replace(run_summary(**seconds), ranks=ranks, straggler=straggler)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("copy", "copy"),
        ("sync", "sync"),
        ("host", "host"),
        ("validate", "validate"),
        ("checkpoint", "checkpoint"),
        ("other", "other"),
        ("starved", "prep"),
    ],
)
def test_the_largest_stall_bounds_the_job_from_a_tenth_of_the_time(part: str, kind: str) -> None:
    least = 20.0 if part == "validate" else 10.0  # a share of validation is wanted
    assert kind_of(run_summary(**{part: least - 1})) == "none"
    assert kind_of(run_summary(**{part: least + 1})) == kind
    rival = "copy" if part != "copy" else "host"
    assert kind_of(run_summary(**{part: 30.0, rival: 29.0})) == kind
    assert kind_of(run_summary(**{part: 30.0, rival: 31.0})) == rival


def test_the_optimiser_is_no_stall() -> None:
    assert kind_of(run_summary(optim=60.0)) == "none"


@pytest.mark.parametrize(
    ("summary", "kind"),
    [
        # Without workers: the CPU time of the waiting thread.
        (starved(30, workers=0, cpu_share=0.9), "prep"),
        (starved(30, workers=0, cpu_share=0.2, io_wait=0.25), "fetch"),
        (starved(30, workers=0, cpu_share=0.2, io_wait=0.05), "loader"),  # storage is waited for in a sixth of it
        (starved(30, workers=0, cpu_share=0.2), "loader"),
        # With workers: theirs.
        (starved(30, workers=4, cpu_workers=3.8, io_wait=0.3), "prep"),
        (starved(30, workers=4, cpu_workers=0.4, io_wait=0.3), "fetch"),
        (starved(30, workers=4, cpu_workers=0.4), "loader"),
        (starved(30, workers=4, cpu_workers=0.9, queued_workers=2.0, io_wait=0.3), "prep"),  # they wait for a CPU
        (starved(30, workers=4), "loader"),  # nobody told their CPU time
        (starved(30, workers=None, cpu_workers=3.8), "loader"),
    ],
)
def test_what_the_loader_is_waited_for(summary: RunSummary, kind: str) -> None:
    assert kind_of(summary) == kind


def test_a_straggler_counts_for_itself_and_not_again_as_its_effects() -> None:
    # On average over both ranks the records say: 22 % sync, 22 % starved. All but 1 % and 2 % is rank 1's doing.
    summary = slow_rank(0.4, sync=22.0, starved=22.0)
    verdict = decide(summary)
    assert verdict is not None
    assert verdict.kind == "straggler"
    assert (
        "43 % of the time the net waited: 40 % for one slow rank, 2 % for decoding, 1 % for gradients"
        in verdict.sentence
    )
    assert "Rank 1 on node1 holds the others back." in verdict.sentence


def test_the_cost_of_a_straggler_is_a_share_of_all_the_time() -> None:
    verdict = decide(slow_rank(0.5, validate=60.0))
    assert verdict is not None
    assert verdict.kind == "validate"
    assert "20 % for one slow rank" in verdict.sentence  # half of the 40 % in steps


def test_a_straggler_that_costs_little_bounds_nothing() -> None:
    assert kind_of(slow_rank(0.05, sync=3.0)) == "none"
    assert kind_of(slow_rank(0.05, validate=30.0)) == "validate"


def test_too_few_steps_are_not_judged() -> None:
    assert kind_of(replace(run_summary(starved=90.0), steps=9)) == "unknown"
    assert kind_of(replace(run_summary(starved=90.0), steps=10)) == "prep"
    assert decide(replace(run_summary(), steps=0, hosts=[])) is None


def test_the_sentence_has_the_shares_the_hidden_wait_and_what_to_expect() -> None:
    summary = replace(run_summary(starved=40.0, copy=10.0, validate=20.0), hidden_wait_s=5.0)
    verdict = decide(summary)
    assert verdict is not None
    assert verdict.sentence == (
        "50 % of the time the net waited: 40 % for decoding, 10 % for copies. Validation took 20 %. "
        "Another 5 % of waiting was hidden by queued work. "
        "Use 1 worker: expect up to 160 images/s (now 80)."  # 80 x 80 s / (80 s - 40 s)
    )


def test_a_gpu_is_called_an_accelerator() -> None:
    summary = run_summary(copy=20.0)
    summary.description["device"] = "1 x NVIDIA H100"
    verdict = decide(summary)
    assert verdict is not None
    assert verdict.sentence.startswith("20 % of the time the accelerator waited: 20 % for copies.")
    assert "CUDA events" in verdict.sure


def test_what_hiding_the_loader_gives_is_bounded_by_the_cpus_that_it_shares_with_the_net() -> None:
    def sentence(cpus: int, **seconds: float) -> str:
        hosts = [host_summary(cpus=cpus, cpu_main=1.6)]
        verdict = decide(replace(run_summary(starved=40.0), hosts=hosts))
        assert verdict is not None
        return verdict.sentence

    assert "Use 1 worker: expect up to 133.3 images/s (now 80)." in sentence(8)  # 80 x 100 s / 60 s: the net's own pace
    assert "Use 1 worker: expect up to 100 images/s (now 80)." in sentence(2)  # 80 x 2 / 1.6: both CPUs always busy

    full = decide(replace(run_summary(starved=40.0), hosts=[host_summary(cpus=2, cpu_main=1.95)]))
    assert full is not None
    assert "more workers would take them from it" in full.sentence
    assert "expect" not in full.sentence
    assert full.advice[0].startswith("Loader and net share the CPUs")

    on_gpu = replace(run_summary(starved=40.0), hosts=[host_summary(cpus=2, cpu_main=1.95)])
    on_gpu.description["device"] = "1 x NVIDIA H100"
    verdict = decide(on_gpu)
    assert verdict is not None
    assert "expect up to 133.3" in verdict.sentence  # the net needs no CPU


def test_the_workers_of_all_ranks_of_a_node_count() -> None:
    two = [rank_summary(0, step_s=1.0, starved_s=0.4), rank_summary(1, step_s=1.0, starved_s=0.4)]

    def kind(used: float, processes: int) -> str:
        hosts = [host_summary(cpus=8, cpu_workers=used, processes=processes)]
        return kind_of(replace(run_summary(1, starved=40.0), ranks=two, hosts=hosts))

    assert kind(1.6, 2) == "prep"  # 0.8 of a CPU for each of two workers
    assert kind(0.8, 1) == "prep"  # only one rank's worker was sampled
    assert kind(0.8, 2) == "loader"


def test_other_programs_on_the_machine_make_it_less_sure() -> None:
    def sure(**values: float) -> str:
        host = host_summary(**{"cpus": 4, "machine_cpus": 4, "cpu_main": 1.5, "cpu_workers": 0.5, **values})
        verdict = decide(replace(run_summary(), hosts=[host]))
        assert verdict is not None
        return verdict.sure

    crowded = sure(cpu_machine=3.8)
    assert crowded.startswith(
        "Less sure: other programs took 1.8 of the 4 CPUs of node1 meanwhile; 100 steps on 1 rank, images/s ± 1.2 %"
    )
    assert sure(cpu_machine=3.0).startswith("Sure: 100 steps")  # a CPU was free
    assert sure(cpu_machine=2.4, cpus=2, machine_cpus=4).startswith("Sure: 100 steps")  # whose CPUs, nobody knows
    assert sure(cpu_machine=4.0, cpu_main=3.6).startswith("Sure: 100 steps")  # this job's own work
    assert sure().startswith("Sure: 100 steps")  # the machine was not sampled

    two = [rank_summary(0), rank_summary(1)]
    for processes, word in ((1, "Sure"), (2, "Less sure")):  # of the one, the other rank may be the crowd
        host = host_summary(cpus=4, machine_cpus=4, cpu_machine=4.0, processes=processes)
        verdict = decide(replace(run_summary(), ranks=two, hosts=[host]))
        assert verdict is not None
        assert verdict.sure.startswith(f"{word}: ")

    few = decide(replace(run_summary(), steps=9, hosts=[host_summary(machine_cpus=4, cpu_machine=4.0)]))
    assert few is not None
    assert few.sure == "Not sure: other programs took 3.0 of the 4 CPUs of node1 meanwhile."


def test_how_sure_it_is() -> None:
    def sure(interval: Interval | None) -> str:
        verdict = decide(replace(run_summary(), images_per_s=interval))
        assert verdict is not None
        return verdict.sure

    assert sure(Interval(80.0, 79.0, 81.0)).startswith("Sure: 100 steps on 1 rank, images/s ± 1.2 %")
    assert sure(Interval(80.0, 76.0, 84.0)).startswith("Fairly sure")
    assert sure(Interval(80.0, 60.0, 100.0)).startswith("Less sure")
    assert "too few" in sure(Interval(80.0))
    assert "too few" in sure(None)


@pytest.mark.parametrize(
    ("workers", "seconds", "cpus", "wanted"),
    [
        # No workers: the loader works 60 s where the device works 40: two processes do it in 30.
        (0, 60.0, 4, 2),
        (0, 40.0, 4, 1),
        # One worker works all of 100 s, the device 30: four do it in 25.
        (1, 70.0, 4, 4),
        (2, 50.0, 4, 4),
        (2, 50.0, 3, None),  # more than the CPUs granted
        (None, 50.0, 4, None),
        # Waited for although two workers' time would do: one more at least.
        (2, 1.0, 8, 3),
    ],
)
def test_the_workers_that_hide_the_wait(workers: int | None, seconds: float, cpus: int, wanted: int | None) -> None:
    summary = replace(run_summary(workers, starved=seconds), hosts=[host_summary(cpus=cpus)])
    assert workers_to_hide(summary) == wanted


def test_ranks_of_a_node_share_its_cpus() -> None:
    summary = replace(run_summary(0, starved=60.0), hosts=[host_summary(cpus=4)])
    assert workers_to_hide(replace(summary, ranks=[rank_summary(k) for k in range(2)])) == 2
    assert workers_to_hide(replace(summary, ranks=[rank_summary(k) for k in range(4)])) is None


def test_workers_beyond_the_grant_are_not_advised() -> None:
    summary = replace(run_summary(2, starved=60.0), hosts=[host_summary(cpus=2, cpu_workers=1.9)])
    summary.description["device"] = "1 x NVIDIA H100"
    verdict = decide(summary)
    assert verdict is not None
    assert "Use" not in verdict.sentence
    assert verdict.advice[0].startswith("More workers than the granted CPUs would be needed")


def test_the_rate_without_a_part() -> None:
    summary = run_summary(starved=30.0, validate=20.0)
    assert without(summary, "starved") == pytest.approx(80 * 80 / 50)
    assert without(summary, "copy") == pytest.approx(80.0)


def device(**values: object) -> DeviceSummary:
    plain = DeviceSummary(
        DeviceInfo("GPU-1", "H100", memory_total=100), 1.0, 0.9, 0.5, 0.5, 90, 300.0, 1.0, 60, {}, {"t": []}
    )
    return replace(plain, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, None),
        ({"sm": None, "tensor": None, "memory_peak": None}, None),  # what is not known is not advised on
        ({"tensor": 0.05}, "tensor cores are mostly idle"),
        ({"sm": 0.3}, "half of the SMs"),
        ({"memory_peak": 20}, "memory is free"),
        ({"throttled": {"power cap": 0.3}}, "throttled"),
    ],
)
def test_a_busy_device_gets_advice_on_its_work(values: dict[str, object], words: str | None) -> None:
    verdict = decide(replace(run_summary(), devices=[device(**values)]))
    assert verdict is not None
    assert verdict.kind == "none"
    assert [words in text for text in verdict.advice] == [True] if words else verdict.advice == []


def test_every_kind_has_words_and_advice() -> None:
    assert set(ADVICE) == set(KINDS)
    assert set(STALL_WORDS) == set(KINDS) - {"none", "unknown"}
    assert all(ADVICE[kind] for kind in KINDS if kind != "none")


# --- without steps --------------------------------------------------------------------------------


def sampled(util: float | None, *, cpus: int = 4, **host: float) -> RunSummary:
    """A program whose GPUs and host were sampled, and nothing else."""
    devices = [device(util=util, sm=0.5)]
    return replace(run_summary(), steps=0, devices=devices, hosts=[host_summary(cpus=cpus, **host)])


@pytest.mark.parametrize(
    ("summary", "kind", "words"),
    [
        (sampled(0.95), "none", "A kernel was running 95 % of the time on 1 GPU, with 50 % of the SMs at work."),
        (sampled(0.89, cpu_main=1.0, cpu_workers=3.0), "prep", "The program used 4.0 of 4 CPUs on node1."),
        (sampled(0.5, io_wait=0.25), "fetch", "Storage was waited for much of the time"),
        (sampled(0.5), "unknown", "Neither CPUs nor storage were at their limit."),
        (sampled(None), "unknown", "No GPU's utilisation could be measured. The program used 1.0 of 4 CPUs"),
    ],
)
def test_a_program_that_was_only_sampled(summary: RunSummary, kind: str, words: str) -> None:
    verdict = decide(summary)
    assert verdict is not None
    assert verdict.kind == kind
    assert words in verdict.sentence
    assert verdict.advice
    assert verdict.sure.startswith("Less sure")
