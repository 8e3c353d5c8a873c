"""`decalage bench stream`."""

import pytest

from tests.worker.commands.bench.conftest import Once
from tests.worker.commands.conftest import Decalage
from worker.commands.bench import stream_loop as loop

pytestmark = pytest.mark.usefixtures("with_model")


def test_streaming_by_number_of_sessions(decalage: Decalage, once: Once, text: str) -> None:
    """Forwards a word stay the same however many share a pass, passes a word fall; words a second have a baseline."""
    once(loop)
    options = ("bench", "stream", "--sessions", "1", "4", "--file", text)
    one, four = decalage(*options, "--json").json["points"]
    assert (one["sessions"], four["sessions"], one["speedup"]) == (1, 4, 1.0)
    assert one["forwards_per_word"] == one["passes_per_word"] == four["forwards_per_word"]
    assert four["passes_per_word"] < one["passes_per_word"] / 2
    assert one["padding"] == 0 < four["padding"] < 1
    assert four["words_per_s"] > 0 < four["undrafted_words_per_s"]
    assert min(four["stages_ms"].values()) > 0
    assert "Plain: without drafts" in decalage(*options).out


def test_random_weights_write_what_the_shipped_model_writes(decalage: Decalage, text: str, tiny_shape: str) -> None:
    """So they take its passes and keep its drafts."""
    options = ("bench", "stream", "--sessions", "2", "--file", text, "--json")
    (trained,), (random,) = (decalage(*options, *shape).json["points"] for shape in ((), ("--shape", tiny_shape)))
    same = ("forwards_per_word", "passes_per_word", "tokens_per_word", "padding", "accepted_drafts")
    assert {name: random[name] for name in same} == {name: trained[name] for name in same}
    assert random["accepted_drafts"] > 0.5
