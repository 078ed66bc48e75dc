"""What the server refuses, whom it does not wait for, and how it ends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gzip
import io
import json
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving.conftest import Server, decoded, encoded, picture, serving, truth
from tests.serving.slow_model import write_slow_model


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose net takes a while, that takes four requests at once and gives each two seconds."""
    folder = tmp_path_factory.mktemp("tight")
    write_slow_model(folder / "slow.onnx", rounds=150)
    flags = ("--max-requests", 4, "--deadline-s", 2, "--grace-s", 1, "--batch", 1, "--min-kb-per-s", 8)
    with serving(folder, "--model", folder / "slow.onnx", *flags) as running:
        yield running


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within some seconds."""
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.05)
    return False


def talk(server: Server, *pieces: bytes, wait: float = 5) -> bytes:
    """Send raw bytes and read what comes until the server closes, or for `wait` seconds."""
    with socket.create_connection(server.address, timeout=wait) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while more := connection.recv(65536):
                answer += more
        return answer


def head(length: object, *lines: str) -> bytes:
    more = "".join(f"{line}\r\n" for line in lines)
    return f"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_sent(server: Server) -> None:
    answer = talk(server, head(9_000_000, "Expect: 100-continue"), wait=2)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


def test_a_body_that_does_not_say_so_is_refused_where_it_becomes_too_long(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(65536)

    response = httpx.post(f"{server.url}segment", content=endless())
    assert response.status_code == 413
    assert response.json()["error"] == "the body is longer than 8 MB"


def test_a_gzip_bomb_is_refused_where_it_becomes_too_long(server: Server) -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)
    assert len(bomb) < 250_000
    response = httpx.post(f"{server.url}segment", content=bomb, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413


def test_a_zip_bomb_is_refused(server: Server) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tif", bytes(100_000_000))
    assert server.post(buffer.getvalue()).status_code == 413


def test_a_scan_with_too_many_values_is_refused(server: Server) -> None:
    pixels = np.zeros((1300, 1300, 3), np.uint8)
    response = server.post(encoded(pixels, "PNG"))
    assert response.status_code == 413
    assert "1300 x 1300" in response.json()["error"]


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"no form", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=scan\r\n\r\nx", 400),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\nx\r\n--b--\r\n",
            400,
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nX: " + bytes(20000) + b"\r\n\r\nx\r\n--b--\r\n", 400),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 400),
    ],
)
def test_forms_that_are_none_are_refused(server: Server, kind: str, body: bytes, status: int) -> None:
    response = httpx.post(f"{server.url}segment", content=body, headers={"Content-Type": kind})
    assert response.status_code == status, response.text


def test_endless_headers_are_refused(server: Server) -> None:
    answer = talk(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-A: " + b"a" * 200_000)
    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""


def test_headers_that_do_not_come_are_not_waited_for(tight: Server) -> None:
    assert talk(tight, b"GET / HTTP/1.1\r\nHost: lo").startswith(b"HTTP/1.1 408 ")
    assert talk(tight) == b""


def test_a_body_that_does_not_come_is_not_waited_for(tight: Server) -> None:
    answer = talk(tight, head(1000), b"II*\0")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"slower than 8 kB/s" in answer
    assert eventually(lambda: tight.metric("segkit_requests_in_work") == 0)


def test_other_names_than_this_machines_are_refused(server: Server) -> None:
    assert httpx.get(f"{server.url}models", headers={"Host": "evil.example"}).status_code == 421
    assert httpx.get(server.url, headers={"Host": "evil.example:8000"}).status_code == 421
    assert httpx.get(f"{server.url}models", headers={"Host": "localhost:8000"}).status_code == 200
    assert httpx.get(f"{server.url}models", headers={"Host": "[::1]:8000"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/../app.py", "/v2/models/..%2f.."]
)
def test_paths_lead_nowhere(server: Server, path: str) -> None:
    answer = talk(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_one_request_more_than_allowed_gets_503_and_the_others_their_masks(tight: Server) -> None:
    bodies = [picture(seed) for seed in range(12)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda pixels: tight.post(encoded(pixels)), bodies))
    codes = [response.status_code for response in responses]
    assert set(codes) == {200, 503}
    assert codes.count(200) >= 4
    for pixels, response in zip(bodies, responses, strict=True):
        if response.status_code == 200:
            np.testing.assert_array_equal(decoded(response.content), truth(pixels))
        else:
            assert int(response.headers["retry-after"]) > 0
            assert response.json()["error"]


def test_a_request_past_its_deadline_gets_503_and_its_slices_are_dropped(tight: Server) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(60):
            archive.writestr(f"{index}.tif", encoded(picture(index)))
    response = tight.post(buffer.getvalue())
    assert response.status_code == 503
    assert "2 s" in response.json()["error"]
    events = tight.post(buffer.getvalue(), answer="events")
    assert events.status_code == 200
    last = json.loads(events.text.strip().rpartition("data: ")[2])
    assert last["status"] == 503
    assert eventually(lambda: tight.metric("segkit_requests_in_work") == 0)
    assert eventually(lambda: tight.metric("segkit_queue_slices") == 0)
    assert tight.post(encoded(picture())).status_code == 200


def test_the_work_of_a_client_that_leaves_is_dropped(tight: Server) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(12):
            archive.writestr(f"{index}.tif", encoded(picture(index)))
    body = buffer.getvalue()
    before = tight.metric('segkit_requests_total{route="/segment",status="499"}')
    with socket.create_connection(tight.address) as connection:
        connection.sendall(head(len(body)) + body)
        assert eventually(lambda: tight.metric("segkit_queue_slices") > 0)
    assert eventually(lambda: tight.metric("segkit_queue_slices") == 0)
    assert eventually(lambda: tight.metric('segkit_requests_total{route="/segment",status="499"}') == before + 1)
    assert eventually(lambda: tight.metric("segkit_requests_in_work") == 0)


def test_a_reader_that_does_not_read_is_cut_off(tmp_path: Path, models: Path) -> None:
    flags = ("--grace-s", 1, "--min-kb-per-s", 100000)
    with serving(tmp_path, "--model", models / "four.onnx", *flags) as running:
        pixels = np.random.default_rng(0).integers(0, 256, (2048, 2048, 1), np.uint8)
        body = encoded(pixels)
        lines = f"POST /segment?answer=events&pixels=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        with socket.create_connection(running.address) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(lines.encode() + b"\r\n\r\n" + body)
            assert connection.recv(1)  # the answer has begun
            assert eventually(lambda: running.metric("segkit_requests_in_work") == 0)


def test_a_token_is_asked_for_and_only_administrators_unload(tmp_path: Path, models: Path) -> None:
    (tmp_path / "users").write_text("user-token-0123456789\nanother-token-0123456789\n")
    (tmp_path / "admins").write_text("admin-token-0123456789\n")
    flags = ("--token-file", tmp_path / "users", "--admin-token-file", tmp_path / "admins", "--host", "0.0.0.0")
    with serving(tmp_path / "run", "--model", models / "three.onnx", *flags) as running:
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        running.url = url

        def ask(method: str, path: str, token: str = "", **more: object) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return httpx.request(method, f"{url}{path}", headers=headers, **more).status_code  # type: ignore[arg-type]

        for path in ("models", "metrics", "v2", "v2/models/three"):
            assert ask("GET", path) == 401
            assert ask("GET", path, "wrong-token-0123456789") == 401
            assert ask("GET", path, "another-token-0123456789") == 200
        assert ask("POST", "segment", content=encoded(picture())) == 401
        assert ask("POST", "segment", "user-token-0123456789", content=encoded(picture())) == 200
        for path in ("", "docs", "openapi.json", "v2/health/live", "v2/health/ready"):
            assert ask("GET", path) == 200
        assert ask("POST", "v2/repository/models/three/unload") == 401
        assert ask("POST", "v2/repository/models/three/unload", "user-token-0123456789") == 403
        assert ask("POST", "v2/repository/models/three/unload", "admin-token-0123456789") == 200
        assert ask("POST", "segment", "user-token-0123456789", content=encoded(picture())) == 503
        log = (tmp_path / "run" / "out").read_text()
        assert "token-0123456789" not in log


def test_shutdown_finishes_what_was_accepted(tmp_path: Path) -> None:
    write_slow_model(tmp_path / "slow.onnx", rounds=200)
    with serving(tmp_path / "run", "--model", tmp_path / "slow.onnx", "--batch", 1) as running:
        bodies = [picture(seed) for seed in range(4)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(running.post, encoded(pixels)) for pixels in bodies]
            assert eventually(lambda: running.metric("segkit_requests_in_work") == 4)
            stopping = threading.Thread(target=running.stop)
            stopping.start()
            for pixels, answer in zip(bodies, answers, strict=True):
                response = answer.result(30)
                assert response.status_code == 200
                np.testing.assert_array_equal(decoded(response.content), truth(pixels))
            stopping.join(20)
        assert running.process.poll() is not None
        with pytest.raises(httpx.TransportError):
            running.post(encoded(picture()))
        assert "Traceback" not in running.errors()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model", "nothing"), "no such model"),
        (("--repository", "."), "holds no"),
        (("--repository", "absent"), "no directory"),
        (("--host", "0.0.0.0"), "--token-file"),
        (("--port", "70000"), "port"),
        (("--max-requests", "0"), "max_requests"),
        (("--host", "203.0.113.7", "--no-auth"), "cannot listen"),
    ],
)
def test_mistakes_at_the_terminal_are_one_line(
    segkit: Callable[..., object], models: Path, flags: tuple[str, ...], words: str
) -> None:
    needs_model = flags[0] not in ("--model", "--repository")
    result = segkit("serve", *(("--model", models / "three.onnx") if needs_model else ()), *flags)
    assert result.returncode == 2, result  # type: ignore[attr-defined]
    told = result.stderr.strip()  # type: ignore[attr-defined]
    assert words in told
    assert "Traceback" not in told


def test_a_port_that_is_taken_is_told(server: Server, segkit: Callable[..., object], models: Path) -> None:
    port = server.address[1]
    result = segkit("serve", "--model", models / "three.onnx", "--port", port)
    assert result.returncode == 2  # type: ignore[attr-defined]
    assert f"port {port}" in result.stderr  # type: ignore[attr-defined]
