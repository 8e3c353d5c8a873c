"""Redis URLs: parse and check one, and show it without its password.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?OPTIONS]      rediss://…  by TLS
    redis+cluster://…, rediss+cluster://…                     a cluster, named by any of its nodes
    unix://[[USER]:PASSWORD@]/PATH[?OPTIONS]                  a socket on this machine

A password may hold any character unescaped, `/ @ ? # [` included. `%XX` stands for one character, so write a `%` before
two hexadecimal digits as `%25`.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from protocol.hosts import authority, bare

RECONNECT_CODES: Final = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN", "UNBLOCKED"}
)
"""First words of errors from a server that cannot serve now, or is not the master any more. Drop the connection: a new
one may lead to another server."""

OVERRIDDEN_OPTIONS: Final = frozenset(
    {
        *("decode_responses", "encoding", "encoding_errors", "health_check_interval", "legacy_responses"),
        *("max_connections", "protocol", "retry_on_timeout", "socket_connect_timeout", "socket_keepalive"),
        *("socket_read_size", "socket_timeout", "timeout"),
    }
)
"""Options that a URL shared with other programs may hold; Decalage sets them itself."""

_FORMS: Final = (
    "expected redis://HOST:PORT/DB, rediss://HOST:PORT/DB, redis+cluster://HOST:PORT or unix:///PATH, with "
    "USER:PASSWORD@ before the host where Redis asks for them"
)
_Error = TypeVar("_Error", bound=BaseException)
_QUOTATION: Final = ", with args beginning with:"
_REMEDY: Final = "Write special characters of the password as %XX"
_SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
_LABEL: Final = r"[\w-]{1,63}"
_ADDRESS: Final = r"\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]"
_HOST: Final = rf"(?:(?P<host>{_LABEL}(?:\.{_LABEL})*\.?|{_ADDRESS})(?::(?P<port>\d{{1,5}}))?)?(?:/(?P<db>\d*))?"
_PATH: Final = r"(?P<path>/[^?]+)"
_QUERY: Final = r"(?:\?(?P<query>(?:[A-Za-z_]+=[^&]*(?:&|$))*))?"


class InvalidRedisUrl(ValueError):
    """The URL cannot name a Redis. The message quotes no value of it, as each may be a piece of a password."""


class RedisUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a Redis and the login."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    """Path of the Unix socket; empty: TCP."""
    db: int = 0
    username: str = ""
    password: str = ""
    client_name: str = ""
    is_tls: bool = False
    is_cluster: bool = False
    tls: dict[str, Any] = {}
    """redis-py's `ssl_…` options."""
    overridden: tuple[str, ...] = ()
    """Options of the URL that have no effect."""

    @property
    def address(self) -> str:
        """The URL without user, password and options.

        >>> parse_redis_url("redis://:s3/cret@localhost:6379/0").address
        'redis://localhost:6379/0'
        """
        if self.path:
            return f"unix://{quote(self.path)}?db={self.db}"
        scheme = ("rediss" if self.is_tls else "redis") + ("+cluster" if self.is_cluster else "")
        return f"{scheme}://{authority(self.host, self.port)}/{self.db}"

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments for redis-py's `Redis` or, for a cluster, `RedisCluster`."""
        place: dict[str, Any] = {"unix_socket_path": self.path} if self.path else {"host": self.host, "port": self.port}
        login = {name: getattr(self, name) or None for name in ("username", "password", "client_name")}
        return {**place, **login, "db": self.db, **({"ssl": True, **self.tls} if self.is_tls else {})}

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the connection's TLS context; None: no TLS. Raises OSError for unreadable certificate files."""
        if not self.is_tls:
            return None
        context = ssl.create_default_context(cafile=self.tls.get("ssl_ca_certs"))
        context.check_hostname = self.tls.get("ssl_check_hostname", True)
        context.verify_mode = _CERTIFICATES[self.tls.get("ssl_cert_reqs", "required")]
        if "ssl_certfile" in self.tls:
            context.load_cert_chain(self.tls["ssl_certfile"], self.tls.get("ssl_keyfile"))
        return context

    def __repr__(self) -> str:
        return f"RedisUrl({self.address!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("address", self.address)]


def parse_redis_url(url: str) -> RedisUrl:
    """Parse `url`. Raises InvalidRedisUrl.

    >>> parse_redis_url("rediss://worker:p@ss@[::1]/2?ssl_cert_reqs=none").settings["password"]
    'p@ss'
    """
    if not _is_utf8(url):
        raise InvalidRedisUrl(f"{_FORMS}, in UTF-8; this is none. {_REMEDY}")
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _SCHEMES:
        raise InvalidRedisUrl(f"{_FORMS}; this is none")
    login, place = _split(rest, is_socket=scheme == "unix")
    options = _options(place.pop("query") or "")
    _check_once(login, place, options)
    username, _, password = (unquote(part) for part in login.partition(":"))
    base = scheme.removesuffix("+cluster")
    parsed = {
        **{"username": username, "password": password} | {k: v for k, v in options.items() if k in _LOGIN},
        **{"is_tls": base == "rediss", "is_cluster": base != scheme},
        **{name: value for name, value in _place(place, options).items() if value is not None},
        "tls": _tls(options, is_tls=base == "rediss"),
        "overridden": tuple(sorted(OVERRIDDEN_OPTIONS & options.keys())),
    }
    if parsed["is_cluster"] and parsed.get("db"):
        raise InvalidRedisUrl("expected database 0 of a cluster, which has no other; leave /DB out")
    return RedisUrl(**parsed)


def redact(error: _Error) -> _Error:
    """Cut out of an error of Redis, and of its causes, the arguments that it quotes; return it.

    Of AUTH, one is the password; of others, some are words of a session.

    >>> redact(ValueError("ERR unknown command 'AUTH', with args beginning with: 's3/cret' "))
    ValueError("ERR unknown command 'AUTH'")
    """
    link: BaseException | None = error
    chain: list[BaseException] = []
    while link is not None and link not in chain:  # causes may go round
        chain.append(link)
        link.args = tuple(arg.partition(_QUOTATION)[0] if isinstance(arg, str) else arg for arg in link.args)
        link = link.__cause__ or link.__context__
    return error


def _split(rest: str, *, is_socket: bool) -> tuple[str, dict[str, Any]]:
    # Split the login from the server's place. An `@` may belong to either: the password ends at the first `@` with a
    # valid place on its right. A URL without a login needs none.
    pattern = re.compile((_PATH if is_socket else _HOST) + _QUERY, re.ASCII)
    for end in (-1, *(at.start() for at in re.finditer("@", rest))):
        place = pattern.fullmatch(rest, end + 1)
        if place is not None:
            _check_options(place["query"] or "")
            return rest[: max(end, 0)], place.groupdict()
    raise InvalidRedisUrl(f"{_FORMS}; this is none. {_REMEDY}")


def _check_options(query: str) -> None:
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    unknown = [name for name in names if name not in _OPTIONS]
    if unknown and ("@" in query or "password" in names):  # what is unknown may be part of a password: do not quote it
        raise InvalidRedisUrl(f"{_FORMS}; in this, it is not clear what the password is. {_REMEDY}")
    if unknown:
        raise InvalidRedisUrl(
            f"expected options of a Redis URL out of {', '.join(sorted(_OPTIONS))}; got {', '.join(unknown)}: leave "
            "it out"
        )


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        read = _OPTIONS[name]
        if name in options:
            raise InvalidRedisUrl(f"expected the option {name} once in the Redis URL, got it twice; leave one out")
        try:
            options[name] = read(text)
        except (KeyError, ValueError):
            raise InvalidRedisUrl(
                f"expected {_VALUES.get(read, 'a value')} as the option {name} of the Redis URL"
            ) from None
    return options


def _check_once(login: str, place: Mapping[str, str | None], options: Mapping[str, Any]) -> None:
    username, _, password = login.partition(":")
    given = {"username": username, "password": password, "db": place.get("db")}
    if twice := [name for name, text in given.items() if text and name in options]:
        raise InvalidRedisUrl(
            f"expected {' and '.join(twice)} once in the Redis URL, got both an option and its place before the `?`; "
            "leave one out"
        )


def _place(place: Mapping[str, str | None], options: Mapping[str, Any]) -> dict[str, Any]:
    port = int(place.get("port") or 6379)
    if not 0 < port < 65_536:  # not quoted: without the `@`, it is a password
        raise InvalidRedisUrl("expected a port from 1 to 65535 behind the host of the Redis URL, got another number")
    return {
        "host": bare(place.get("host") or "localhost"),
        "port": port,
        "path": _readable(unquote(place.get("path") or "")),
        "db": options.get("db", _database(place.get("db") or "0")),
    }


def _tls(options: Mapping[str, Any], *, is_tls: bool) -> dict[str, Any]:
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if tls and not is_tls:
        raise InvalidRedisUrl(f"expected rediss:// (TLS) with {', '.join(sorted(tls))}; use it, or leave them out")
    if "ssl_keyfile" in tls and "ssl_certfile" not in tls:
        raise InvalidRedisUrl(
            "expected ssl_certfile with ssl_keyfile in the Redis URL: the key is that of a certificate"
        )
    if tls.get("ssl_cert_reqs") == "none" and tls.setdefault("ssl_check_hostname", False):
        raise InvalidRedisUrl("expected ssl_check_hostname=false with ssl_cert_reqs=none: no name is in question")
    return tls


def _yes_or_no(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]


def _is_utf8(text: str) -> bool:
    # Other bytes of a command line arrive as lone surrogates.
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _database(text: str) -> int:
    if re.fullmatch(r"\d{1,9}", text, re.ASCII) is None:
        raise InvalidRedisUrl("expected the number of a database, such as 0, in the Redis URL")
    return int(text)


def _client_name(text: str) -> str:
    # CLIENT SETNAME takes no other characters.
    if re.fullmatch("[!-~]*", text) is None:
        raise ValueError("not printable ASCII")
    return text


def _readable(path: str) -> str:
    if "\0" in path:
        raise InvalidRedisUrl("expected a path without %00 in the Redis URL")
    return path


def _certificates(text: str) -> str:
    _CERTIFICATES[text]
    return text


_CERTIFICATES: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_LOGIN: Final = frozenset({"username", "password", "client_name"})
_OPTIONS: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(_LOGIN, str),
    **dict.fromkeys(OVERRIDDEN_OPTIONS, str),
    **dict.fromkeys(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), _readable),
    "client_name": _client_name,
    "db": _database,
    "ssl_cert_reqs": _certificates,
    "ssl_check_hostname": _yes_or_no,
}
_VALUES: Final[dict[Callable[[str], Any], str]] = {
    _database: "a number of up to 9 digits",
    _readable: "a path without %00",
    _client_name: "a name of ASCII characters without spaces",
    _certificates: "none, optional or required",
    _yes_or_no: "true or false",
}
