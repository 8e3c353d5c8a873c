"""`decalage bench mixed`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.commands.bench.conftest import Once
from tests.worker.commands.conftest import Decalage
from tests.worker.evaluation.test_curve import pixels
from worker.commands.bench import mixed_loop
from worker.commands.bench.mixed_loop import largest

OPTIONS = ("bench", "mixed", "--seconds", "1", "--pace", "15")


@pytest.mark.usefixtures("with_model")
def test_delays_by_number_of_speakers(decalage: Decalage, text: str, tmp_path: Path) -> None:
    """All in one pass, and each in a pass of its own; what is measured is the same."""
    picture = tmp_path / "mixed.png"
    limit = ("--limit-ms", "1e6")
    report = decalage(*OPTIONS, *limit, "--file", text, "--speakers", "3", "1", "--plot", str(picture), "--json").json
    together, alone = report["together"], report["alone"]
    assert [point["speakers"] for point in together["points"]] == [1, 3]
    assert together["most_speakers"] == alone["most_speakers"] == 3
    for one, other in zip(together["points"], alone["points"], strict=True):
        assert one["p50_ms"] <= one["p95_ms"]
        assert other["rows_per_pass"] == 1
        assert one["words"] == other["words"] > 10
        assert one["busy"] > 0
    assert together["points"][1]["rows_per_pass"] > 1
    assert pixels(picture.read_bytes()) == (1080, 690)


@pytest.mark.usefixtures("with_model")
def test_a_wait_for_company(decalage: Decalage, once: Once, text: str) -> None:
    """As many words; three speakers of 15 words/s, heard for 60 ms, share more passes than one speaker's segments."""
    once(mixed_loop)
    options = ("--file", text, "--speakers", "1", "3", "--batch-timeout-ms", "60", "--limit-ms", "1e6")
    report = decalage(*OPTIONS, *options, "--json").json
    together, waiting = report["together"]["points"], report["waiting"]["points"]
    assert [point["words"] for point in waiting] == [point["words"] for point in together]
    assert waiting[1]["rows_per_pass"] > waiting[0]["rows_per_pass"] >= 1
    assert "Waiting 60 ms for others" in decalage(*OPTIONS, *options).out


@pytest.mark.usefixtures("with_model")
def test_looking_for_the_largest_number(decalage: Decalage, text: str, tiny_shape: str) -> None:
    """Where nobody can be served in time, one speaker is enough to know."""
    out = decalage(*OPTIONS, "--limit-ms", "1e-3", "--file", text, "--shape", tiny_shape).out
    assert "up to 0 speakers" in out
    assert "Baseline: each session a pass" in out


@pytest.mark.usefixtures("with_model")
def test_too_short_to_hear_a_word(decalage: Decalage) -> None:
    """The message tells what to do."""
    ran = decalage("bench", "mixed", "--seconds", "1", "--pace", "0.1", "--speakers", "1", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (1, "invalid_input")
    assert "--seconds" in ran.err


@given(st.integers(0, 5000), st.integers(1, 5000))
def test_the_largest_number_that_holds(threshold: int, maximum: int) -> None:
    """It holds, and a number a tenth larger does not; few are asked for."""
    asked = []

    def holds(number: int) -> bool:
        assert 1 <= number <= maximum
        asked.append(number)
        return number <= threshold

    found = largest(holds, maximum)
    assert found <= min(threshold, maximum)
    assert found + max(1, found // 10) >= min(threshold, maximum)
    assert len(asked) == len(set(asked)) <= 20
