"""`decalage bench ingest`: words into a worker, beside the same words into Redis alone."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.worker.commands.bench.conftest import Once
from tests.worker.commands.conftest import Decalage
from worker.commands.bench import ingest_loop as loop
from worker.commands.bench.ingest_loop import Point


def test_every_number_of_words_has_a_baseline(decalage: Decalage, once: Once, tmp_path: Path) -> None:
    """Each load has its words a second, and those of Redis alone, also in the picture, and a line in the table; more
    sessions than words have a word each.
    """
    once(loop)
    picture = tmp_path / "ingest.png"
    options = ("bench", "ingest", "--words", "2", "150", "--sessions", "3")
    ran = decalage(*options, "--plot", str(picture), "--json")
    assert (ran.status, picture.read_bytes()[:4]) == (0, b"\x89PNG")
    points = ran.json["points"]
    assert [(point["sessions"], point["words"]) for point in points] == [(3, 3), (3, 150)]
    assert all(point["words_per_s"] > 0 < point["plain_words_per_s"] for point in points)
    assert all(point["worker_cpu_us"] >= 0 for point in points)
    out = decalage(*options).out
    assert "Redis alone" in out
    assert "ratio" in out


def test_every_number_of_words_is_measured_with_every_number_of_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each on a server of its own; a session has at least a word."""
    servers: list[SimpleNamespace] = []

    def redis_server() -> nullcontext[SimpleNamespace]:
        servers.append(SimpleNamespace(url=f"redis://{len(servers)}", version="8"))
        return nullcontext(servers[-1])

    async def point(url: str, sessions: int, words: int) -> Point:
        return Point(sessions, words, words_per_s=1, plain_words_per_s=1, worker_cpu_us=1)

    monkeypatch.setattr(loop, "redis_server", redis_server)
    monkeypatch.setattr(loop, "_point", point)
    points = loop.measure([1, 3], [2, 150]).points
    assert [(each.sessions, each.words) for each in points] == [(1, 2), (1, 150), (3, 3), (3, 150)]
    assert len(servers) == 4
