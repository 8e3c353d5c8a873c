"""`decalage bench gateway`: words through WebSockets, beside words by Redis alone."""

from pathlib import Path

from tests.worker.commands.conftest import Decalage


def test_delays_and_memory(decalage: Decalage, tmp_path: Path) -> None:
    """Delays have a baseline, also in the picture, and connections their memory."""
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


def test_the_table(decalage: Decalage) -> None:
    """Without listeners there is no figure of them."""
    ran = decalage("bench", "gateway", "--sessions", "2", "--pace", "20", "--seconds", "1", "--listeners", "0")
    assert "WebSocket" in ran.out
    assert "listeners" not in ran.out
