"""Who calls, and what the caller may do: API keys with scopes, links, client secrets; or anyone on loopback."""

import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from producers.gateway.errors import ApiError
from producers.gateway.tokens import ExpiredToken, InvalidToken, pack, sign, unpack, verify

Scope: TypeAlias = Literal["produce", "subscribe", "configure", "stats"]
SCOPES: Final[frozenset[Scope]] = frozenset(get_args(Scope))

KEY_SUBPROTOCOLS: Final = {"decalage.key.": "decalage", "openai-insecure-api-key.": "realtime"}
"""Subprotocols that carry a key, by their beginning, and the one beside each that the gateway then chooses."""

CLIENT_SECRET_PREFIX: Final = "ek_"

_LINE: Final = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,64})\s+(?P<digest>[0-9a-f]{64})\s+(?P<scopes>[a-z]+(?:,[a-z]+)*)")


class InvalidKeys(ValueError):
    """The keys that the gateway was given cannot be read. The message quotes none of them."""


class Caller(Struct, frozen=True):
    """Whoever sent a request."""

    name: str | None = None
    """The name of the key, which owns the sessions that it opens; None: everyone, where no keys are set."""
    scopes: frozenset[Scope] = SCOPES
    session_id: str | None = None
    """The one session that a listener link reads."""
    is_temporary: bool = False
    """Whether the key is a link or a client secret, which cannot make others."""
    defaults: bytes = b""
    """JSON that a client secret carries: the session of OpenAI's translation API."""

    def require_lasting(self) -> None:
        """Raise ApiError for a link or a client secret, which else could live for ever by making others."""
        if self.is_temporary:
            raise ApiError(403, "missing_scope", "expected a lasting key, got a link or client secret")

    def require(self, scope: Scope) -> None:
        """Raise ApiError unless the caller has the scope."""
        if scope not in self.scopes:
            have = ", ".join(sorted(self.scopes)) or "none"
            raise ApiError(403, "missing_scope", f"expected a key with the scope {scope}, got one with {have}")


class _ClientSecret(Struct):
    name: str | None
    defaults: msgspec.Raw


class Keys:
    """The keys of a gateway, by the hashes of their text."""

    def __init__(self, keys: Mapping[str, Caller], secret: bytes = b"") -> None:
        """`secret` signs links and client secrets; empty: a random one."""
        self._keys: Final = dict(keys)
        secret = secret or secrets.token_bytes(32)
        # Two secrets, so that a link to a session can never pass for a client secret, whatever the session's id.
        self._link_secret: Final = secret + b"link"
        self._client_secret: Final = secret + b"client"

    @property
    def is_open(self) -> bool:
        """Whether there are no keys, so that everyone may do everything."""
        return not self._keys

    def caller(self, key: str | None) -> Caller:
        """Return the caller that sent this key, link or client secret. Raises ApiError."""
        if not key:
            if self.is_open:
                return Caller()
            raise ApiError(401, "missing_key", "expected a key: send `Authorization: Bearer KEY`, or `?key=KEY`")
        if known := self._keys.get(hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()):
            return known
        try:
            return self._signed(key)
        except ExpiredToken:
            raise ApiError(401, "expired_link", "the link or client secret has expired: ask for a new one") from None
        except InvalidToken:
            if self.is_open and "~" not in key:  # OpenAI's client always sends some key
                return Caller()
            raise ApiError(401, "invalid_key", "the key is not known here: check it, or ask for a new one") from None

    def _signed(self, token: str) -> Caller:
        now_s = time.time()
        if token.startswith(CLIENT_SECRET_PREFIX):
            with suppress(InvalidToken):
                data = unpack(verify(token.removeprefix(CLIENT_SECRET_PREFIX), self._client_secret, now_s))
                carried = msgspec.json.decode(data, type=_ClientSecret)
                scopes: frozenset[Scope] = frozenset({"produce", "subscribe"})
                return Caller(carried.name, scopes, is_temporary=True, defaults=bytes(carried.defaults))
        session_id = verify(token, self._link_secret, now_s)
        return Caller("", frozenset({"subscribe"}), session_id=session_id, is_temporary=True)

    def link(self, session_id: str, expires_at_s: int) -> str:
        """Return a token that reads the session's events up to this Unix time."""
        return sign(session_id, expires_at_s, self._link_secret)

    def client_secret(self, caller: Caller, defaults: bytes, expires_at_s: int) -> str:
        """Return a token that opens sessions for the caller, with these defaults as JSON, up to this Unix time."""
        data = msgspec.json.encode(_ClientSecret(caller.name, msgspec.Raw(defaults)))
        return CLIENT_SECRET_PREFIX + sign(pack(data), expires_at_s, self._client_secret)


def parse_keys(lines: Iterable[str]) -> dict[str, Caller]:
    """Return the keys in lines `NAME SHA256 SCOPE,SCOPE`; `#` starts a comment. Raises InvalidKeys.

    >>> parse_keys(["captions " + 64 * "0" + " subscribe"])[64 * "0"].name
    'captions'
    """
    keys: dict[str, Caller] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.fullmatch(text)
        scopes = frozenset(found["scopes"].split(",")) if found else frozenset()
        if found is None or not scopes <= SCOPES:
            raise InvalidKeys(
                f"expected NAME SHA256 SCOPE,SCOPE in line {number} of the keys, with scopes out of "
                f"{', '.join(sorted(SCOPES))}, got something else; `decalage gateway --new-key NAME` prints a line"
            )
        if found["digest"] in keys:
            raise InvalidKeys(f"expected each key once, got the key of line {number} of the keys again: delete one")
        keys[found["digest"]] = Caller(found["name"], frozenset(scope for scope in SCOPES if scope in scopes))
    return keys


def new_key(name: str, scopes: Iterable[Scope]) -> tuple[str, str]:
    """Return a new key and its line. Raises InvalidKeys for a wrong name or scope."""
    key = f"dk_{secrets.token_urlsafe(24)}"
    line = f"{name} {hashlib.sha256(key.encode()).hexdigest()} {','.join(sorted(scopes))}"
    parse_keys([line])
    return key, line


def sent_key(headers: Mapping[str, str], query: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
    """Return the key of a request: from `Authorization`, a subprotocol or `?key=`, in this order; None: it has none.

    Raises ApiError for another scheme than Bearer.
    """
    if authorization := headers.get("authorization"):
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(401, "invalid_key", "expected `Authorization: Bearer KEY`, got another scheme")
        return key.strip()
    for offered in subprotocols:
        for prefix in KEY_SUBPROTOCOLS:
            if offered.startswith(prefix):
                return offered.removeprefix(prefix)
    return query.get("key")


def chosen_subprotocol(offered: Sequence[str]) -> str | None:
    """Return the subprotocol to answer with: one that carries no key; None: none was offered."""
    return next((name for name in offered if name in KEY_SUBPROTOCOLS.values()), None)
