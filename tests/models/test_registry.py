from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segkit.errors import ConfigError, SegkitError
from segkit.models import registry
from segkit.models.cost import cost

GOOD = """
import torch

def build(in_channels, classes, width):
    "One convolution.\\n\\nNothing else."
    return torch.nn.Conv2d(in_channels, classes, 1)
"""

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with one module that registers `build` as a net named like the module."""

    def install(name: str, code: str) -> None:
        folder = tmp_path / "site" / f"{name}_package-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[segkit.models]\n{name} = {name}_module:build\n")
        (tmp_path / "site" / f"{name}_module.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


def test_the_three_nets_come_first() -> None:
    assert registry.names()[:3] == registry.CORE == ("unet", "fcn", "segnet")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"model = 'vnet': allowed is unet, fcn, segnet"):
        registry.build("vnet", in_channels=3, classes=2, width=8)


@pytest.mark.parametrize("key", ["in_channels", "classes", "width"])
def test_an_impossible_number_is_named(key: str) -> None:
    numbers = {"in_channels": 3, "classes": 2, "width": 8, key: 0}
    with pytest.raises(ConfigError, match=key):
        registry.build("unet", **numbers)


def test_another_packages_net(install: Install) -> None:
    install("pointwise", GOOD)
    assert "pointwise" in registry.names()
    assert registry.spec("pointwise").summary == "One convolution."
    assert registry.spec("pointwise").paper == "package pointwise-package"
    net = registry.build("pointwise", in_channels=5, classes=4, width=8)
    assert net(torch.zeros(1, 5, 32, 32)).shape == (1, 4, 32, 32)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("raise RuntimeError('first line\\nsecond line')", "first line"),
        ("build = 3", "not callable"),
        ("other = 3", "AttributeError"),
        ("def build(a, b, c): raise KeyError('width 8')", "width 8"),
        ("def build(a, b): ...", "TypeError"),
        ("def build(a, b, c): return 'net'", "gave a str"),
    ],
)
def test_a_broken_package_is_named_in_one_line(
    code: str, reason: str, install: Install, request: pytest.FixtureRequest
) -> None:
    name = "broken" + re.sub(r"\W", "", request.node.callspec.id)  # modules stay imported from test to test
    install(name, code)
    assert registry.build("unet", in_channels=3, classes=2, width=2)
    with pytest.raises(SegkitError, match=reason) as caught:
        registry.build(name, in_channels=3, classes=2, width=8)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_package_cannot_take_a_name_of_ours(install: Install) -> None:
    install("unet", GOOD)
    assert len(list(registry.build("unet", in_channels=3, classes=2, width=2).parameters())) > 2
    assert registry.names().count("unet") == 1


def test_cost_of_a_convolution_by_hand(install: Install) -> None:
    install("byhand", GOOD)
    found = cost("byhand", in_channels=5, classes=4, width=8)
    assert found.parameters == 5 * 4 + 4
    assert found.gflops == pytest.approx(2 * 5 * 4 * 256 * 256 / 1e9)


def test_cost_of_vgg16_by_hand() -> None:
    """FCN-8s at 256 x 256, its 13 convolutions, fc6 and fc7 counted on paper; scores and upsampling are small."""
    channels = [3, *[64] * 2, *[128] * 2, *[256] * 3, *[512] * 6]
    sizes = [256] * 2 + [128] * 2 + [64] * 3 + [32] * 3 + [16] * 3
    layers = zip(channels[:-1], channels[1:], sizes, strict=True)
    multiplications = sum(9 * i * o * size**2 for i, o, size in layers) + 64 * (49 * 512 * 4096 + 4096**2)
    assert cost("fcn", in_channels=3, classes=2, width=64).gflops == pytest.approx(2e-9 * multiplications, rel=1e-3)


def test_the_command_lists_every_net(segkit: Callable[..., object]) -> None:
    table = segkit("models")
    assert table.returncode == 0, table.stderr  # type: ignore[attr-defined]
    for words in (r"unet +31\.0\d M +96\.\d", r"fcn +134\.2\d M", r"segnet +29\.4\d M"):
        assert re.search(words, table.stdout), table.stdout  # type: ignore[attr-defined]


def test_the_command_writes_json(segkit: Callable[..., object]) -> None:
    listed = json.loads(segkit("models", "--json", "--width", 8, "--channels", 1).stdout)  # type: ignore[attr-defined]
    assert listed["width"] == 8
    assert [row["name"] for row in listed["models"]] == list(registry.names())
    assert all(row["parameters"] > 0 and row["gflops"] > 0 for row in listed["models"])
