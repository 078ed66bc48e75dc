"""Models by name and version, and newer ones in their place while requests run."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from segkit.errors import SegkitError
from segkit.model_metadata import MASK
from segkit.serving.errors import RequestError
from segkit.serving.models import ModelStore
from tests.serving.conftest import Server, decoded, encoded, picture, serving
from tests.serving.test_limits import eventually
from tests.threshold_model import expected_classes, write_threshold_model


def write(path: Path, channel: int) -> Path:
    """A model that looks at one channel; written beside, then renamed, as `segkit export` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name("new.tmp")
    write_threshold_model(new, channel=channel)
    new.replace(path)
    return path


def channel_of(store: ModelStore, name: str = "", version: str = "") -> int:
    """Which channel a served model looks at."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    found = []
    for channel in range(3):
        image[...] = 0
        image[..., channel] = 255
        if store.get(name, version).model.run([MASK], image)[0].any():
            found.append(channel)
    (only,) = found
    return only


def status(store: ModelStore, *words: str) -> int:
    with pytest.raises(RequestError) as caught:
        store.get(*words)
    return caught.value.status


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Two models: one by file, one with versions 2 and 10."""
    write(tmp_path / "run" / "model.onnx", 0)
    write(tmp_path / "repository" / "many" / "2" / "model.onnx", 1)
    write(tmp_path / "repository" / "many" / "10" / "model.onnx", 2)
    store = ModelStore("cpu")
    store.add([str(tmp_path / "run")], [tmp_path / "repository"])
    return store


def test_models_are_found_by_name_and_version(store: ModelStore) -> None:
    assert store.names == ["run", "many"]
    assert channel_of(store) == 0
    assert channel_of(store, "many") == 2  # 10 is after 2
    assert channel_of(store, "many", "2") == 1
    assert [served.version for served in store.versions("many")] == ["2", "10"]
    assert status(store, "other") == 404
    assert status(store, "many", "3") == 404
    assert store.ready


def test_names_must_differ_and_be_names(tmp_path: Path) -> None:
    path = write(tmp_path / "run" / "model.onnx", 0)
    with pytest.raises(SegkitError, match="two models are named"):
        ModelStore("cpu").add([str(path), f"run={path}"], [])
    with pytest.raises(SegkitError, match="no name for a model"):
        ModelStore("cpu").add([f"a/b={path}"], [])


def test_a_new_file_takes_the_place_of_the_old_one(store: ModelStore, tmp_path: Path) -> None:
    old = store.get("run")
    store.look()
    assert store.get("run") is old, "nothing has changed"
    write(tmp_path / "run" / "model.onnx", 2)
    store.look()
    assert channel_of(store, "run") == 2
    assert old.model.run([MASK], np.full((1, 32, 32, 3), 255, np.uint8))[0].all(), "whoever has the old one keeps it"


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_broken_file_leaves_the_old_one_in_place(
    store: ModelStore, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run" / "model.onnx").write_bytes(content)
    store.look()
    store.look()
    assert channel_of(store, "run") == 0
    assert len([record for record in caplog.records if "not loaded" in record.message]) == 1, "told once"
    with pytest.raises(RequestError, match="cannot be loaded") as caught:
        store.load("run")
    assert str(tmp_path) not in caught.value.reason
    write(tmp_path / "run" / "model.onnx", 1)
    store.look()
    assert channel_of(store, "run") == 1


def test_versions_come_and_go(store: ModelStore, tmp_path: Path) -> None:
    many = tmp_path / "repository" / "many"
    write(many / "11" / "model.onnx", 0)
    (many / "12").mkdir()  # not there yet
    write(tmp_path / "repository" / "fresh" / "1" / "model.onnx", 1)
    store.look()
    assert [served.version for served in store.versions("many")] == ["2", "10", "11"]
    assert channel_of(store, "many") == 0
    assert channel_of(store, "fresh") == 1
    shutil.rmtree(many / "11")
    store.look()
    assert channel_of(store, "many") == 2


def test_a_file_that_goes_is_served_on(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "run" / "model.onnx").unlink()
    store.look()
    assert channel_of(store, "run") == 0


def test_unload_and_load(store: ModelStore, tmp_path: Path) -> None:
    store.unload("run")
    store.look()
    assert status(store, "run") == 503
    assert {"name": "run", "state": "UNAVAILABLE", "reason": "unloaded"} in store.index()
    write(tmp_path / "run" / "model.onnx", 1)
    store.load("run")
    assert channel_of(store, "run") == 1
    for act in (store.load, store.unload):
        with pytest.raises(RequestError) as caught:
            act("../run")
        assert caught.value.status == 404


def test_a_model_is_swapped_under_load_without_dropping_a_request(tmp_path: Path) -> None:
    path = write(tmp_path / "run" / "model.onnx", 0)
    pixels = picture(1)
    masks = [expected_classes(pixels[..., channel]) * np.uint8(255) for channel in (0, 1)]
    with serving(tmp_path / "serve", "--model", path, "--watch-s", 0.2) as running:
        seen: list[int] = []

        def ask(_: int) -> None:
            response = running.post(encoded(pixels))
            assert response.status_code == 200, response.text
            mask = decoded(response.content)
            (which,) = [index for index, expected in enumerate(masks) if np.array_equal(mask, expected)]
            seen.append(which)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(20)))
            write(path, 1)
            assert eventually(lambda: (list(pool.map(ask, range(10))), seen[-1] == 1)[1])
            list(pool.map(ask, range(20)))
        assert seen[0] == 0
        assert seen[-1] == 1
        assert seen == sorted(seen) or 0 not in seen[-20:]
        assert running.metric('segkit_model_loads_total{model="run",result="loaded"}') == 2
        os.utime(path)


def test_two_models_answer_by_name(server: Server) -> None:
    grey = picture(4, channels=1)
    three = server.post(encoded(grey), model="three", answer="measures").json()
    four = server.post(encoded(grey), model="four", answer="measures").json()
    assert set(three["classes"]) == {"tumour"}
    assert set(four["classes"]) == {"tumour", "edema", "necrosis"}
    classes = expected_classes(grey[..., 0], 4)
    assert four["classes"]["necrosis"]["pixels"] == np.count_nonzero(classes == 3)
