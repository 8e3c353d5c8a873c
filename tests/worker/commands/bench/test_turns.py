"""`decalage bench turns`."""

from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage
from tests.worker.evaluation.test_curve import pixels

pytestmark = pytest.mark.usefixtures("with_model")


def test_turn_by_turn(decalage: Decalage, text: str, tmp_path: Path) -> None:
    """The last turns and their baseline have the same words; only within a turn, a session holds keys and values."""
    picture = tmp_path / "turns.png"
    options = ("bench", "turns", "--turns", "20", "--sessions", "2", "--file", text)
    report = decalage(*options, "--plot", str(picture), "--json").json
    first, last, new, whole = report["spans"]
    assert (first["name"], last["name"]) == ("first 2", "last 2")
    assert first["words"] == last["words"] == new["words"] == whole["words"] / 10
    assert report["ratio"] == pytest.approx(last["median_ms"] / new["median_ms"], abs=1e-3)
    assert len(report["medians_ms"]) == 20
    memory = report["memory"]
    assert memory["between_turns_kv_bytes"] == 0 < memory["within_turn_kv_bytes"] < memory["long_kv_bytes"]
    assert 0 < memory["between_turns_bytes"] < memory["within_turn_bytes"]
    assert pixels(picture.read_bytes()) == (1080, 690)


def test_the_tables(decalage: Decalage, text: str, tiny_shape: str) -> None:
    """Latencies, memory, the ratio, the machine."""
    out = decalage("bench", "turns", "--turns", "2", "--sessions", "1", "--file", text, "--shape", tiny_shape).out
    for part in ("first 1", "1,000 source words of one segment", "Last to newcomers", "mlx-lm"):
        assert part in out
