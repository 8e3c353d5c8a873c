"""What Redis answers: errors as redis-py's public exceptions, and stream entries."""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Disconnected

from protocol.redis_url import RECONNECT_CODES, redact

Command: TypeAlias = Sequence[str | bytes | int]
"""Its name, and its arguments."""

Entry: TypeAlias = tuple[str, dict[bytes, bytes]]
"""Of a stream: id and fields."""

WRONG_TYPE: Final = "WRONGTYPE"

_KINDS: Final[dict[str, type[Exception]]] = {
    "CLUSTERDOWN": ClusterDownError,
    "LOADING": BusyLoadingError,
    "MASTERDOWN": MasterDownError,
    "NOAUTH": AuthenticationError,
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
    "TRYAGAIN": TryAgainError,
    "WRONGPASS": AuthenticationError,
}
_TEXTS: Final[dict[str, type[Exception]]] = {
    "ERR max number of clients": Disconnected,
    "ERR AUTH": AuthenticationError,
    # A command inside a script was denied: Redis 7.0, and later ones.
    "ERR The user executing the script can't": NoPermissionError,
    "ERR ACL failure in script": NoPermissionError,
}
_PASSING: Final = RECONNECT_CODES | {"MISCONF", "NOREPLICAS", "OOM"}
"""Codes of errors that an operator, or a failover, puts right: what was asked is to be asked again."""


class Denied(NoPermissionError):
    """The user that this program logs in as may not run a command, or not on that key: `what`, as `COMMAND on KEY`."""

    def __init__(self, what: str, reason: object) -> None:
        super().__init__(f"Redis denies {what} ({reason}); allow it to this user with ACL SETUSER")
        self.what = what


class Interrupted(Disconnected):
    """Redis answers, but cannot do now what was asked; it is no fault of a session's."""


def error_of(text: str) -> Exception:
    """The exception that stands for an error reply; its message is the reply's.

    >>> error_of("READONLY You can't write against a read only replica.")
    server:ReadOnlyError
    """
    kind = _KINDS.get(text.partition(" ")[0])
    if kind is None:
        kind = next((kind for start, kind in _TEXTS.items() if text.startswith(start)), ResponseError)
    return kind(text)


def checked(answer: Any, command: Command) -> Any:
    """The answer to this command, or the error that is the command's own: a ResponseError, or Denied.

    Raises what concerns all commands: Interrupted where the server cannot serve now, and what redis-py gives in place
    of an answer where it has not reached a node of a cluster.
    """
    if not isinstance(answer, Exception):
        return answer
    redact(answer)
    if isinstance(answer, NoPermissionError):
        return Denied(_named(command), answer)
    if _passes(answer):
        raise Interrupted(f"{_named(command)}: {answer}") from answer
    if isinstance(answer, ResponseError) and not isinstance(answer, ClusterError):
        return answer
    raise answer


def refused_login(command: Command, error: Exception) -> Exception:
    """Return the error for a refused command of a login: an AuthenticationError, unless the server may accept it later.

    It names the command, never its arguments: one may be a password.
    """
    message = f"{command[0]!s}: {redact(error)}"
    if _passes(error) and not isinstance(error, AuthenticationError):
        return Interrupted(message)
    return AuthenticationError(message)


def _passes(error: Exception) -> bool:
    # redis-py's own parser, in a cluster, leaves the code of a kind that it knows out of the text.
    kinds = (Disconnected, MasterDownError, ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
    return isinstance(error, kinds) or str(error).partition(" ")[0] in _PASSING


def is_wrong_type(answer: Any) -> bool:
    """Tell whether a command met a key that holds another type: somebody else has written it."""
    return isinstance(answer, ResponseError) and str(answer).startswith(WRONG_TYPE)


def entries(answer: Sequence[Any] | None) -> list[Entry]:
    """The entries in the answer to XRANGE, or of one stream in that to XREAD."""
    return [(entry_id.decode(), dict(zip(fields[::2], fields[1::2], strict=True))) for entry_id, fields in answer or ()]


def _named(command: Command) -> str:
    # Commands that run a script have its keys behind their number.
    key_at = 3 if command[0] in ("EVAL", "EVALSHA") and int(command[2]) else 1
    if command[0] == "XREAD":
        key_at = [*command].index("STREAMS") + 1
    key = command[key_at] if len(command) > key_at else ""
    text = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
    return f"{command[0]!s} on {text}" if text.startswith("decalage:") else str(command[0])
