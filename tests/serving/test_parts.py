"""The small parts: budgets, negotiation, tokens, views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segkit.errors import ConfigError, SegkitError
from segkit.imaging.scan import Scan
from segkit.serving.auth import Guard, is_loopback
from segkit.serving.budget import Budget
from segkit.serving.config import Limits, ServerConfig
from segkit.serving.errors import Busy, RequestError
from segkit.serving.negotiate import EVENTS, MASK, MEASURES, OVERLAY, wanted_answer
from segkit.serving.view import view_of


def test_a_budget_is_refused_when_full_and_given_back() -> None:
    budget = Budget(10, "full")
    with budget.share(6) as first:
        with pytest.raises(Busy, match="full"):
            budget.share(5)
        with budget.share(4):
            with pytest.raises(Busy):
                first.grow_to(7)
            assert budget.taken == 10
        first.grow_to(9)
        assert budget.taken == 9
    assert budget.taken == 0


def test_alone_a_share_may_be_larger_than_the_budget() -> None:
    budget = Budget(10, "full")
    with budget.share(50), pytest.raises(Busy):
        budget.share(1)
    assert budget.taken == 0


@pytest.mark.parametrize(
    ("accept", "named", "expected"),
    [
        ("", "", (MASK, "")),
        ("*/*", "", (MASK, "")),
        ("application/json", "", (MEASURES, "")),
        ("image/png", "", (OVERLAY, "")),
        ("text/event-stream", "", (EVENTS, "")),
        ("image/tiff", "", (MASK, ".tif")),
        ("text/html, application/json;q=0.5, */*;q=0.1", "", (MEASURES, "")),
        ("application/json;q=0.2, image/png;q=0.9", "", (OVERLAY, "")),
        ("image/*", "", (MASK, "")),
        ("text/html", "measures", (MEASURES, "")),
        ("application/json", "mask", (MASK, "")),
    ],
)
def test_the_answer_is_what_the_client_prefers(accept: str, named: str, expected: tuple[str, str]) -> None:
    assert wanted_answer(accept, named) == expected


@pytest.mark.parametrize(
    ("accept", "named", "status"), [("text/html", "", 406), ("", "tea", 400), ("*/*;q=0", "", 406)]
)
def test_what_is_never_given_is_refused(accept: str, named: str, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        wanted_answer(accept, named)
    assert caught.value.status == status


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert Guard.from_config(ServerConfig(host=host)).local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu-server"])
def test_other_addresses_need_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(SegkitError, match="--token-file"):
        Guard.from_config(ServerConfig(host=host))
    Guard.from_config(ServerConfig(host=host, auth=False))
    (tmp_path / "tokens").write_text("0123456789abcdef\n")
    Guard.from_config(ServerConfig(host=host, token_file=str(tmp_path / "tokens")))


@pytest.mark.parametrize("content", ["", "\n\n", "short\n"])
def test_weak_token_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(SegkitError, match="tokens"):
        Guard.from_config(ServerConfig(token_file=str(tmp_path / "tokens")))
    with pytest.raises(SegkitError, match="cannot be read"):
        Guard.from_config(ServerConfig(token_file=str(tmp_path / "none")))


def test_limits_are_checked_where_they_are_made() -> None:
    with pytest.raises(ConfigError, match="max_requests"):
        Limits(max_requests=0)
    with pytest.raises(ConfigError, match="deadline_s"):
        Limits(deadline_s=-1.0)
    assert Limits(grace_s=2.0, min_kb_per_s=1.0).patience(3 * 1024) == pytest.approx(5)


def scan_of(pixels: np.ndarray, channels: tuple[str, ...] = ("image",)) -> Scan:
    return Scan(pixels, None, None, channels, Path("scan"), "tiff")


def test_a_view_keeps_8_bits_and_leaves_alpha_out() -> None:
    pixels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    view = view_of(scan_of(pixels, ("red", "green", "blue", "alpha")))
    assert view.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(view.pixels, pixels[..., :3])


def test_a_view_of_floats_leads_back_to_their_values() -> None:
    pixels = np.random.default_rng(0).normal(0, 1e5, (2, 5, 5, 1))
    pixels[0, 0, 0] = np.nan
    pixels[0, 0, 1] = np.inf
    view = view_of(scan_of(pixels))
    back = view.pixels * view.slope + view.intercept
    finite = np.isfinite(pixels)
    np.testing.assert_allclose(back[finite], pixels[finite], atol=view.slope)
    assert view.pixels[0, 0, 0, 0] == 0
    assert view.pixels[0, 0, 1, 0] == 65535


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_a_view_of_nothing_is_still_a_view(value: float) -> None:
    view = view_of(scan_of(np.full((1, 4, 4, 1), value)))
    assert view.pixels.max() == 0
    assert view.slope > 0
