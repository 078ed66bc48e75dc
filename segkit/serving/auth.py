"""Who may do what: tokens by header, and host names that a browser cannot be tricked into."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from segkit.errors import FileError, SegkitError
from segkit.serving.config import ServerConfig
from segkit.serving.errors import RequestError

_MIN_LENGTH = 16
_REMEDY = "write a long random one, for example with: openssl rand -hex 24"


@dataclass(frozen=True)
class Guard:
    """Checks requests against tokens."""

    users: tuple[bytes, ...]
    admins: tuple[bytes, ...]
    local: bool  # bound to a loopback address without tokens: only names of this machine are answered

    @classmethod
    def from_config(cls, config: ServerConfig) -> Guard:
        """Read the token files.

        Raises:
            FileError: a token file is absent, empty, or its tokens are short.
            SegkitError: an address that others can reach, and no tokens.
        """
        users = _tokens(config.token_file)
        admins = _tokens(config.admin_token_file)
        loopback = is_loopback(config.host)
        if not loopback and config.auth and not users:
            raise SegkitError(
                f"--host {config.host} can be reached by others: give --token-file FILE, "
                "or --no-auth to serve whoever can reach it"
            )
        return cls(users if config.auth else (), admins, loopback and not users)

    def check(self, request: Request) -> None:
        """Whether the request may send scans. Raises RequestError 401 or 421."""
        self.check_host(request)
        if self.users and not _matches(request, self.users + self.admins):
            raise RequestError(
                401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": 'Bearer realm="segkit"'}
            )

    def check_admin(self, request: Request) -> None:
        """Whether the request may load and unload models. Raises RequestError 401, 403 or 421."""
        self.check(request)
        if not self.admins:
            raise RequestError(403, "models are loaded and unloaded only where the server has --admin-token-file")
        if not _matches(request, self.admins):
            raise RequestError(403, "loading and unloading models needs an administrator's token")

    def check_host(self, request: Request) -> None:
        """Refuse host names that a foreign page has pointed at this machine (DNS rebinding). Raises RequestError."""
        if self.local and not is_loopback(_host_name(request.headers.get("host", ""))):
            raise RequestError(421, "this server answers to localhost only")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def _matches(request: Request, tokens: tuple[bytes, ...]) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    sent = given.strip().encode("latin-1", "replace")
    return sum(hmac.compare_digest(sent, token) for token in tokens) > 0  # all of them, in equal time


def _tokens(file: str) -> tuple[bytes, ...]:
    if not file:
        return ()
    try:
        lines = Path(file).read_bytes().splitlines()
    except OSError as error:
        raise FileError(file, f"cannot be read ({error.strerror})") from error
    tokens = tuple(line.strip() for line in lines if line.strip())
    if not tokens:
        raise FileError(file, "holds no token", _REMEDY)
    if any(len(token) < _MIN_LENGTH for token in tokens):
        raise FileError(file, f"holds a token of fewer than {_MIN_LENGTH} characters", _REMEDY)
    return tokens
