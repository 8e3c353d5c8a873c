"""`decalage gateway` and `decalage up`, as processes and in this one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import redis

from producers.gateway.auth import SCOPES, Caller, parse_keys
from producers.gateway.server import open_port, url_of
from producers.gateway.settings import Settings
from tests.conftest import one_redis
from tests.worker.commands.conftest import Decalage
from worker.commands import gateway

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 60

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start `decalage` with these arguments before the test's Redis."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DECALAGE_")}
        variables = clean | {"PYTHONPATH": str(ROOT), "DECALAGE_REDIS": redis_url}
        command = [sys.executable, "-W", "error", "-m", "worker", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=variables, cwd=tmp_path, text=True, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=LIMIT_S)


def url_in(stream: Iterator[str] | None) -> str:
    """Return the first URL of a gateway that the process prints."""
    for line in stream or ():
        if found := re.search(r"http://[\d.]+:\d+/", line):
            return found[0]
    raise AssertionError("the process ended without a URL")


@one_redis
def test_a_gateway_until_a_signal(start: Start) -> None:
    """It says where it is and who may use it, answers, and ends with 0."""
    process = start("gateway", "--port", "0")
    url = url_in(process.stderr)
    with urlopen(f"{url}livez", timeout=LIMIT_S) as answer:
        assert json.load(answer)["ok"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0


@pytest.mark.parametrize("signals", [1, 2, 3])
def test_open_listeners_are_cut_off_at_the_end(signals: int, start: Start, redis_url: str) -> None:
    """However often it is told to end, there is no traceback for any of them."""
    process = start("gateway", "--port", "0")
    url = url_in(process.stderr)
    with redis.Redis.from_url(redis_url) as client:
        client.xadd("decalage:{talk}:source", {"event": '{"type": "session.create"}'})
        client.expire("decalage:{talk}:source", 600)
    with urlopen(f"{url}v1/sessions/talk/events", timeout=LIMIT_S):
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert "Traceback" not in err


@one_redis
@pytest.mark.parametrize("arguments", [("gateway",), ("up", "--model", "starter-draft")])
def test_a_terminal_that_closes_ends_it_in_order(arguments: tuple[str, ...], start: Start) -> None:
    """SIGHUP, also twice, is heard like SIGTERM: else, `up` would leave its worker behind."""
    process = start(*arguments, "--port", "0")
    url_in(process.stdout if arguments[0] == "up" else process.stderr)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=LIMIT_S)  # its end also closes the worker's copies of the pipes
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        *((host, "[::1]") for host in ("::1", "[::1]", "0:0:0:0:0:0:0:1")),
        *(("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("localhost", "127.0.0.1")),
    ],
)
def test_hosts_that_need_no_key(host: str, shown: str) -> None:
    """Loopback addresses in any spelling, IPv6 with and without brackets."""
    with open_port(Settings(redis="", host=host, port=0), has_keys=False) as listening:
        assert url_of(listening).startswith(f"http://{shown}:")


@one_redis
def test_up_is_all_of_it(start: Start) -> None:
    """Broker, worker and gateway: a prompt is translated; Ctrl-C stops the worker too."""
    process = start("up", "--port", "0")
    url = url_in(process.stdout)
    session = {"session": {"target_language": "fr"}}
    request = Request(f"{url}v1/sessions", json.dumps(session).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=LIMIT_S) as answer:
        session_id = json.load(answer)["id"]
    said = {"text": "We are at home.", "finalize": True, "close": True}
    urlopen(Request(f"{url}v1/sessions/{session_id}/input", json.dumps(said).encode()), timeout=LIMIT_S).close()
    with urlopen(f"{url}v1/sessions/{session_id}/events", timeout=LIMIT_S) as stream:
        events = [json.loads(line[6:]) for line in stream if line.startswith(b'data: {"type"')]
    assert "".join(event["text"] for event in events if event["type"] == "segment.done") == "Nous sommes chez nous."
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)  # the worker's pipes are closed too, so it has ended
    assert process.returncode == 0


@one_redis
def test_up_tells_why_the_worker_ended(start: Start) -> None:
    """A model that is not there ends all with 1; the gateway has nothing to add."""
    process = start("up", "--port", "0", "--model", "nope")
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "no model directory or GGUF file 'nope'" in err
    assert "the worker ended with status 1" in err
    assert "Traceback" not in err


def test_a_new_key(decalage: Decalage) -> None:
    """The line that is printed admits the key that is printed, with the scopes asked for."""
    ran = decalage("gateway", "--new-key", "captions", "--scopes", "stats", "subscribe")
    found = re.fullmatch(r"key:  (dk_\S+)\nline: (captions [0-9a-f]{64} stats,subscribe)\n", ran.out)
    assert found
    [caller] = parse_keys([found[2]]).values()
    assert caller == Caller("captions", frozenset({"stats", "subscribe"}))
    assert frozenset(gateway._SCOPES) == SCOPES


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--host", "0.0.0.0"), "expected keys for a gateway on 0.0.0.0"),
        (("--keys", "missing.txt"), "missing.txt: No such file"),
        (("--redis", "nonsense"), "expected redis://HOST:PORT/DB"),
        (("--new-key", "a b"), "expected NAME SHA256 SCOPE,SCOPE"),
    ],
)
def test_what_keeps_it_from_starting(arguments: tuple[str, ...], part: str, decalage: Decalage) -> None:
    """One line says what was expected."""
    ran = decalage("gateway", "--port", "0", "--redis", "redis://127.0.0.1:1", *arguments)
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert part in ran.err


@pytest.mark.parametrize(
    ("host", "bound", "shown"),
    [("127.0.0.1", "127.0.0.1", "127.0.0.1"), ("::1", "::1", "[::1]"), ("[::1]", "::1", "[::1]")],
)
def test_the_port_is_taken(host: str, bound: str, shown: str, decalage: Decalage) -> None:
    """The error names it as a URL has it, and the option."""
    with socket.create_server((bound, 0), family=socket.AF_INET6 if ":" in bound else socket.AF_INET) as taken:
        port = str(taken.getsockname()[1])
        ran = decalage("gateway", "--host", host, "--port", port, "--redis", "redis://127.0.0.1:1")
    assert ran.status == 1
    assert f"cannot listen on {shown}:{port} (" in ran.err
    assert "--port" in ran.err
