"""`decalage bench gateway`: words through WebSockets, beside words by Redis alone."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.worker.commands.bench.conftest import Once
from tests.worker.commands.conftest import Decalage
from worker.commands.bench import gateway_loop as loop


def test_delays_and_memory(decalage: Decalage, once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays have a baseline, also in the picture, and connections their memory, which the table tells if there
    are any.
    """
    once(loop)
    picture = tmp_path / "gateway.png"
    options = ("--sessions", "3", "--pace", "20", "--seconds", "1", "--listeners", "5")
    ran = decalage("bench", "gateway", *options, "--plot", str(picture), "--json")
    assert (ran.status, picture.read_bytes()[:4]) == (0, b"\x89PNG")
    report = ran.json
    assert 20 <= report["num_delays"] <= 60
    assert 0 < report["p50_ms"] <= report["p99_ms"]
    assert 0 < report["redis_p50_ms"] <= report["redis_p99_ms"]
    assert report["added_p99_ms"] == round(report["p99_ms"] - report["redis_p99_ms"], 3)
    assert report["hundredths_ms"] == sorted(report["hundredths_ms"])
    assert report["listeners"] == 5
    out = decalage("bench", "gateway", *options).out
    assert "WebSocket" in out
    assert "5 idle listeners" in out
    measured = loop.measure
    monkeypatch.setattr(
        loop, "measure", lambda *args, **options: replace(measured(*args, **options), listener_kib=None)
    )
    assert "listeners" not in decalage("bench", "gateway", *options).out


def test_memory_of_nobody() -> None:
    """It is no number."""
    assert loop.kib_each(100, 5) == 20
    assert loop.kib_each(100, 0) is None
