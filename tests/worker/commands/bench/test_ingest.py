"""`decalage bench ingest`: words into a worker, beside the same words into Redis alone."""

from pathlib import Path

from tests.worker.commands.conftest import Decalage


def test_every_number_of_words_has_a_baseline(decalage: Decalage, tmp_path: Path) -> None:
    """Each load has its words a second, and those of Redis alone, also in the picture; more sessions than words have a
    word each.
    """
    picture = tmp_path / "ingest.png"
    ran = decalage("bench", "ingest", "--words", "2", "150", "--sessions", "1", "3", "--plot", str(picture), "--json")
    assert (ran.status, picture.read_bytes()[:4]) == (0, b"\x89PNG")
    points = ran.json["points"]
    assert [(point["sessions"], point["words"]) for point in points] == [(1, 2), (1, 150), (3, 3), (3, 150)]
    assert all(point["words_per_s"] > 0 < point["plain_words_per_s"] for point in points)
    assert all(point["worker_cpu_us"] >= 0 for point in points)


def test_the_table(decalage: Decalage) -> None:
    """A line for each load, with the ratio to Redis alone."""
    out = decalage("bench", "ingest", "--words", "100", "--sessions", "1").out
    assert "Redis alone" in out
    assert "ratio" in out
