"""Medical Segmentation Decathlon and nnU-Net raw: a `dataset.json` beside `imagesTr` and `labelsTr`.

Two styles of `dataset.json` are known. The decathlon's has `modality` and `labels` as {"0": name} and a list
`training` of image and label; channels are the fourth axis of an image. nnU-Net's (version 2) has
`channel_names`, `labels` as {name: value} and `file_ending`; each channel is a file `<case>_0000<ending>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.data.cases import Case, CaseSet, Problem, SliceRef
from segkit.data.headers import is_volume, read_volume_header
from segkit.data.layout_files import Entry, build_cases
from segkit.errors import FileError
from segkit.files import read_json

_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    images: tuple[Path, ...]
    label: Path


def find_decathlon(root: Path) -> CaseSet | None:
    """Read `root` after its `dataset.json`; None if it has none (or one of something else)."""
    path = root / "dataset.json"
    if not path.is_file():
        return None
    info = read_json(path)
    if not isinstance(info, dict) or not isinstance(info.get("labels"), dict):
        return None
    classes, values = _classes(path, info["labels"])
    channels = _channels(path, info)
    pairs, problems = _pairs(root, path, info)
    cases: list[Case] = []
    flat: list[Entry] = []
    for pair in sorted(pairs, key=lambda pair: pair.name):
        try:
            if is_volume(pair.label):
                cases.append(_volume_case(pair, len(channels)))
            else:
                flat.append(Entry(pair.name, "", pair.images, pair.label))
        except FileError as error:
            problems.append(Problem(error.path, error.reason))
    if flat:
        more, _, odd = build_cases(flat, bands=len(channels))
        cases += more
        problems += odd
    cases.sort(key=lambda case: case.patient)
    licence = str(info.get("licence") or info.get("license") or "")
    return CaseSet(root, "decathlon", tuple(cases), classes, channels, values, tuple(problems), licence)


def _classes(path: Path, labels: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    try:
        if all(key.isdigit() for key in labels):
            named = {int(key): str(name) for key, name in labels.items()}
        else:
            named = {int(value): name for name, value in labels.items()}
    except (TypeError, ValueError) as error:
        raise FileError(path, "has regions (lists of values) as labels", "give each class one value") from error
    if len(named) != len(labels) or "ignore" in named.values():
        raise FileError(path, "has an ignore label or one value twice", "give each class a value of its own")
    values = tuple(sorted(named))
    if len(values) < 2 or len(values) > 255 or values[0] != 0:
        raise FileError(path, f"has the label values {list(values)[:10]}", "0 is background, 1 and above classes")
    return tuple(named[value] for value in values), values


def _channels(path: Path, info: dict[str, Any]) -> tuple[str, ...]:
    names = info.get("channel_names") or info.get("modality") or {"0": "image"}
    if not isinstance(names, dict) or not all(str(key).isdigit() for key in names):
        raise FileError(path, "names its channels in an unknown way", 'write "channel_names": {"0": "FLAIR", ...}')
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _pairs(root: Path, path: Path, info: dict[str, Any]) -> tuple[list[_Pair], list[Problem]]:
    listed = info.get("training")
    if isinstance(listed, list) and listed:
        return _listed_pairs(root, path, listed)
    return _found_pairs(root, str(info.get("file_ending", ".nii.gz")))


def _listed_pairs(root: Path, path: Path, listed: list[Any]) -> tuple[list[_Pair], list[Problem]]:
    pairs, problems = [], []
    for item in listed:
        if not (isinstance(item, dict) and isinstance(item.get("image"), str) and isinstance(item.get("label"), str)):
            problems.append(Problem(path, f"has a training entry without image and label: {str(item)[:60]}"))
            continue
        image, label = root / item["image"], root / item["label"]
        outside = next((p for p in (image, label) if not p.resolve().is_relative_to(root.resolve())), None)
        if outside is not None:
            problems.append(Problem(outside, "is listed in dataset.json, but lies outside the dataset"))
            continue
        images = (image,) if image.exists() else _channel_files(image) or (image,)
        pairs.append(_Pair(_stem(label.name), images, label))
    return pairs, problems


def _channel_files(image: Path) -> tuple[Path, ...]:
    """nnU-Net's first version lists `case.nii.gz` where the files are `case_0000.nii.gz` and so on."""
    stem = _stem(image.name)
    return tuple(sorted(image.parent.glob(f"{stem}_[0-9][0-9][0-9][0-9]{image.name[len(stem) :]}")))


def _found_pairs(root: Path, ending: str) -> tuple[list[_Pair], list[Problem]]:
    channels: dict[str, list[Path]] = {}
    for path in _files(root / "imagesTr", ending):
        match = _CHANNEL.fullmatch(path.name[: -len(ending)])
        channels.setdefault(match[1] if match else path.name[: -len(ending)], []).append(path)
    labels = {path.name[: -len(ending)]: path for path in _files(root / "labelsTr", ending)}
    problems = [Problem(channels[c][0], "has no label in labelsTr") for c in sorted(channels.keys() - labels.keys())]
    problems += [Problem(labels[c], "has no image in imagesTr") for c in sorted(labels.keys() - channels.keys())]
    both = sorted(channels.keys() & labels.keys())
    return [_Pair(name, tuple(channels[name]), labels[name]) for name in both], problems


def _files(folder: Path, ending: str) -> list[Path]:
    if not ending or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.endswith(ending) and path.name[0] != ".")


def _volume_case(pair: _Pair, channels: int) -> Case:
    headers = [read_volume_header(path) for path in pair.images]
    label = read_volume_header(pair.label)
    first = (headers[0].slices, headers[0].height, headers[0].width)
    for path, header in zip((*pair.images[1:], pair.label), (*headers[1:], label), strict=True):
        size = (header.slices, header.height, header.width)
        if size != first:
            raise FileError(path, f"has {size} voxels (slices, rows, columns), but {pair.images[0].name} has {first}")
    if label.channels != 1:
        raise FileError(pair.label, f"has {label.channels} channels; a label has one value a voxel")
    found = sum(header.channels for header in headers)
    if found != channels:
        raise FileError(pair.images[0], f"has {found} channels, but dataset.json names {channels}")
    slices = tuple(SliceRef(pair.images, pair.label, index) for index in range(first[0]))
    return Case(pair.name, "", slices, first[1:], headers[0].spacing)


def _stem(name: str) -> str:
    return name[:-7] if name.lower().endswith(".nii.gz") else Path(name).stem
