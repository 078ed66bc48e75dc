from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.layouts import find_cases
from segkit.data.packed import RECORDS, SURVEY, cache_key, open_cache
from segkit.data.stores import BatchLoader, open_store
from segkit.data.survey import Frame, UnreadableSlices, all_refs, choose_frame
from tests.conftest import clean_environment

CPU = torch.device("cpu")


def gathered(loader: str, phantom: Path, cache: Path, rows: np.ndarray, frame: Frame | None = None) -> torch.Tensor:
    case_set = find_cases(phantom)
    store, _ = open_store(loader, case_set, frame or choose_frame(case_set), cache, CPU)
    return store.gather(rows)


@pytest.mark.parametrize("loader", ["files", "packed", "resident"])
def test_a_store_gives_the_files_pixels(loader: str, phantom: Path, tmp_path: Path) -> None:
    case_set = find_cases(phantom)
    store, _ = open_store(loader, case_set, choose_frame(case_set), tmp_path, CPU)
    rows = np.array([5, 0, 17])
    images, masks = store.shape.split(store.gather(rows))
    for row, image, mask in zip(rows, images, masks, strict=True):
        ref = all_refs(case_set)[row]
        np.testing.assert_array_equal(image.numpy(), np.asarray(Image.open(ref.images[0])))
        np.testing.assert_array_equal(mask.numpy() * 255, np.asarray(Image.open(ref.mask)))


@pytest.mark.parametrize("frame", [Frame((32, 96), "scale"), Frame((96, 128), "pad")])
def test_the_stores_agree_in_any_frame(frame: Frame, phantom: Path, tmp_path: Path) -> None:
    rows = np.arange(8)
    files, packed, resident = (
        gathered(loader, phantom, tmp_path, rows, frame) for loader in ("files", "packed", "resident")
    )
    assert torch.equal(files, packed)
    assert torch.equal(files, resident)


@pytest.mark.parametrize("loader", ["files", "packed"])
def test_workers_give_the_same_batches_in_order_every_epoch(loader: str, phantom: Path, tmp_path: Path) -> None:
    case_set = find_cases(phantom)
    store, _ = open_store(loader, case_set, choose_frame(case_set), tmp_path, CPU)
    epochs = [[np.array([3, 1]), np.array([7]), np.array([2, 2, 40])], [np.array([9])], []]
    alone = BatchLoader(store, workers=0, prefetch=2, pin=False)
    pool = BatchLoader(store, workers=2, prefetch=2, pin=False)
    for batches in epochs:
        for expected, got in zip(alone.iterate(batches), pool.iterate(batches), strict=True):
            assert torch.equal(expected, got)


def test_survey_counts_agree_with_the_files(phantom: Path, tmp_path: Path) -> None:
    case_set = find_cases(phantom)
    _, survey = open_store("files", case_set, choose_frame(case_set), tmp_path, CPU)
    images = np.stack([np.asarray(Image.open(ref.images[0])) for ref in all_refs(case_set)]) / 255
    masks = np.stack([np.asarray(Image.open(ref.mask)) for ref in all_refs(case_set)]) > 0
    np.testing.assert_array_equal(survey.pixels[:, 1], masks.sum(axis=(1, 2)))
    np.testing.assert_array_equal(survey.has_foreground(), masks.any(axis=(1, 2)))
    rows = np.arange(10, 30)
    mean, std = survey.normalisation(rows)
    np.testing.assert_allclose(mean, images[rows].mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(std, images[rows].std(axis=(0, 1, 2)), rtol=1e-6)


def test_a_changed_file_makes_another_cache(phantom: Path, tmp_path: Path) -> None:
    case_set = find_cases(phantom)
    frame = choose_frame(case_set)
    before = cache_key(case_set, frame, packed=True)
    assert before == cache_key(find_cases(phantom), frame, packed=True)
    assert before != cache_key(case_set, Frame((96, 96), "scale"), packed=True)
    path = all_refs(case_set)[0].mask
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    try:
        assert before != cache_key(case_set, frame, packed=True)
    finally:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _open(phantom: Path, cache: Path, barrier: multiprocessing.Barrier, results: multiprocessing.Queue) -> None:  # type: ignore[valid-type,type-arg]
    case_set = find_cases(phantom)
    barrier.wait()  # type: ignore[attr-defined]
    _, entry = open_cache(case_set, choose_frame(case_set), cache, packed=True)
    results.put(((entry / RECORDS).stat().st_ino, (entry / RECORDS).stat().st_size))


def test_ranks_that_start_at_once_build_one_cache(phantom: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    ranks = [context.Process(target=_open, args=(phantom, tmp_path, barrier, results)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    found = {results.get(timeout=60) for _ in ranks}
    for rank in ranks:
        rank.join()
    assert len(found) == 1  # the same file on every rank
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1  # and no litter


def test_a_builder_that_is_killed_leaves_no_cache(tmp_path: Path) -> None:
    from segkit.data.phantom import write_phantom

    data, cache = tmp_path / "data", tmp_path / "cache"
    write_phantom(data, patients=12, slices=20, size=192)
    code = (
        "import sys; from pathlib import Path; from segkit.data.layouts import find_cases\n"
        "from segkit.data.packed import open_cache; from segkit.data.survey import choose_frame\n"
        "c = find_cases(Path(sys.argv[1])); open_cache(c, choose_frame(c), Path(sys.argv[2]), packed=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(data), str(cache)], env=clean_environment())
    while process.poll() is None and not list(cache.glob(f".*/{RECORDS}")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(cache.glob(f"[!.]*/{SURVEY}"))
    case_set = find_cases(data)
    survey, entry = open_cache(case_set, choose_frame(case_set), cache, packed=True)
    assert len(survey.pixels) == 240
    assert (entry / RECORDS).stat().st_size == 240 * 192 * 192 * 4


def test_every_unreadable_slice_is_named_at_the_start(tmp_path: Path) -> None:
    from segkit.data.phantom import write_phantom

    write_phantom(tmp_path / "data", patients=3, slices=4, size=64)
    broken = sorted((tmp_path / "data").glob("*/*_2_mask.tif"))[:2]
    for path in broken:
        Image.new("L", (64, 64), 77).save(path)  # a sound header, but no mask
    case_set = find_cases(tmp_path / "data")
    with pytest.raises(UnreadableSlices) as caught:
        open_cache(case_set, choose_frame(case_set), tmp_path / "cache", packed=True)
    assert [problem.path for problem in caught.value.problems] == broken
    assert str(broken[0]) in str(caught.value)
    assert "1 more" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    assert not list((tmp_path / "cache").glob("[!.]*/"))
