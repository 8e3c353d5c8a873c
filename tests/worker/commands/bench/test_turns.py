"""`decalage bench turns`."""

from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage
from tests.worker.evaluation.test_curve import pixels

pytestmark = pytest.mark.usefixtures("with_model")


def test_turn_by_turn(decalage: Decalage, text: str, tmp_path: Path) -> None:
    """Head and tail have the same words; a session between turns holds no keys and values, one within a turn does."""
    picture = tmp_path / "turns.png"
    options = ("bench", "turns", "--turns", "20", "--sessions", "2", "--text", text)
    report = decalage(*options, "--plot", str(picture), "--json").json
    head, tail, whole = report["spans"]
    assert (head["name"], tail["name"]) == ("first 2", "last 2")
    assert head["words"] == tail["words"] == whole["words"] / 10
    assert report["ratio"] == pytest.approx(tail["median_ms"] / head["median_ms"], abs=1e-3)
    assert len(report["medians_ms"]) == 20
    memory = report["memory"]
    assert memory["between_turns_kv_bytes"] == 0 < memory["within_turn_kv_bytes"] < memory["long_kv_bytes"]
    assert 0 < memory["between_turns_bytes"] < memory["within_turn_bytes"]
    assert pixels(picture.read_bytes()) == (1080, 690)


def test_the_tables(decalage: Decalage, text: str, tiny_shape: str) -> None:
    """Latencies, memory, the ratio, the machine."""
    out = decalage("bench", "turns", "--turns", "2", "--sessions", "1", "--text", text, "--shape", tiny_shape).out
    for part in ("first 1", "1,000 source words of one segment", "Tail to head", "mlx-lm"):
        assert part in out
