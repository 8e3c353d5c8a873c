"""Leaving, with real processes: signals, and `decalage drain`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import one_redis
from tests.worker.commands.conftest import Decalage

pytestmark = one_redis
ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 60
HOUR_MS = "3600000"

Start = Callable[..., "Worker"]


class Worker:
    """A `decalage serve` process that is ready."""

    def __init__(self, url: str, **variables: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "DECALAGE_METRICS_PORT": "-1", **variables}
        command = [sys.executable, "-m", "worker", "serve", "--redis", url, "--log-format", "json"]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.name = str(self.log("ready")["worker"])

    def log(self, event: str) -> dict[str, Any]:
        """The next line of this kind."""
        for line in self.process.stderr or ():
            if line.startswith("{") and (fact := json.loads(line))["event"] == event:
                return dict(fact)
        raise AssertionError(f"the worker ended without {event!r}")

    def signal(self, number: signal.Signals) -> None:
        """Sent to it."""
        self.process.send_signal(number)

    def status(self) -> int:
        """How it ended."""
        self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode


@pytest.fixture
def start(redis_url: str) -> Iterator[Start]:
    """Starts workers with leases of an hour: what one does not give back, nobody gets."""
    workers: list[Worker] = []

    def begin(**variables: str) -> Worker:
        workers.append(Worker(redis_url, **{"DECALAGE_LEASE_MS": HOUR_MS, **variables}))
        return workers[-1]

    yield begin
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.kill()
        worker.process.communicate()


def say(client: redis.Redis, *events: dict[str, Any]) -> None:
    """Into the session `talk`."""
    for event in events:
        client.xadd("decalage:{talk}:source", {"event": json.dumps(event)})


def hear(client: redis.Redis, until: str) -> list[dict[str, Any]]:
    """All that the session `talk` has published, once there is an event of this type."""
    last, heard = "0", list[dict[str, Any]]()
    while not any(event["type"] == until for event in heard):
        answer: Any = client.xread({"decalage:{talk}:target": last}, block=LIMIT_S * 1000)
        assert answer, f"no {until} after {heard}"
        last = answer[0][1][-1][0]
        heard += [json.loads(fields[b"event"]) for _, fields in answer[0][1]]
    return heard


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client whose reads may block."""
    with redis.Redis.from_url(redis_url, protocol=2, socket_timeout=LIMIT_S + 5) as opened:
        yield opened


CREATE: dict[str, Any] = {"type": "session.create", "session": {"target_language": "fr"}}
FINALIZE: dict[str, Any] = {"type": "input_text.finalize"}


def append(text: str) -> dict[str, Any]:
    """Words."""
    return {"type": "input_text.append", "text": text}


def test_sigterm_hands_the_sessions_to_the_next_worker(start: Start, client: redis.Redis) -> None:
    """With leases of an hour, the second worker goes on all the same, behind the last word; the first ends with 0."""
    first, second = start(), start()
    say(client, CREATE, append("Please close the window"))
    hear(client, "output_text.delta")
    first.signal(signal.SIGTERM)
    say(client, append("before you leave the room."), FINALIZE)
    heard = hear(client, "segment.done")
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert heard[-1]["source_words"] == 9
    assert first.status() == 0
    assert second.process.poll() is None


def test_a_second_signal_ends_it_now(start: Start, client: redis.Redis) -> None:
    """However much there is to do and however long it may take for it."""
    worker = start(DECALAGE_DRAIN_MS=HOUR_MS)
    many = {"target_language": "fr", "segmentation": "sentence", "limits": {"max_backlog_words": 1_000_000}}
    say(client, {"type": "session.create", "session": many}, *[append("Please close the window. " * 300)] * 10)
    hear(client, "segment.done")
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)
    assert worker.status() == 130


def test_drain(start: Start, decalage: Decalage, redis_url: str) -> None:
    """One worker by its name, then all; each ends with 0, and what they held is told."""
    first, second = start(), start()
    ran = decalage("drain", first.name, "--redis", redis_url, "--json")
    assert ran.status == 0
    [left] = ran.json["workers"]
    assert (left["worker"], left["has_left"]) == (first.name, True)
    assert first.status() == 0
    assert second.process.poll() is None
    ran = decalage("drain", "--redis", redis_url)
    assert ran.status == 0
    assert second.name in ran.out
    assert "has left" in ran.out
    assert second.status() == 0


def test_drain_without_workers(decalage: Decalage, redis_url: str) -> None:
    """Nobody there is no failure; a name that nobody has is one, and the names there are are told."""
    assert decalage("drain", "--redis", redis_url).out == "no worker runs here\n"
    ran = decalage("drain", "nobody", "--redis", redis_url, "--json")
    assert ran.status == 1
    assert ran.json["error"]["code"] == "no_worker"
