"""`decalage bench stream`."""

import pytest

from protocol import Session
from tests.worker.commands.bench.conftest import Once
from tests.worker.commands.conftest import Decalage
from worker.commands.bench import stream_loop as loop
from worker.commands.bench.models import harness

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


def test_layouts_side_by_side(decalage: Decalage, once: Once, text: str, tiny_shape: str) -> None:
    """With the same words, passes and drafts, each beside the first layout and beside its own first number."""
    once(loop)
    wanted = ("--sessions", "1", "3", "--layout", "group", "contiguous", "--policy", "adaptive-1-5-0.9")
    options = ("bench", "stream", "--shape", tiny_shape, "--file", text, *wanted)
    report = decalage(*options, "--json").json
    assert report["layouts"] == ["group", "contiguous"]
    for number, points in zip((1, 3), (report["points"][:2], report["points"][2:]), strict=True):
        assert [(point["sessions"], point["layout"]) for point in points] == [(number, "group"), (number, "contiguous")]
        same = ("forwards_per_word", "passes_per_word", "tokens_per_word", "accepted_drafts")
        assert all(points[0][name] == points[1][name] for name in same)
        assert points[1]["ratio"] == pytest.approx(points[1]["words_per_s"] / points[0]["words_per_s"], abs=0.01)
        for point, base in zip(points, report["points"], strict=False):
            assert point["speedup"] == pytest.approx(point["words_per_s"] / base["words_per_s"], abs=0.01)
    assert "contiguous / group" in decalage(*options).out


def test_a_contiguous_layout_feeds_the_target_again() -> None:
    """So its passes have more tokens, which only a measurement of rows in that layout shows."""
    model = harness("starter", None)
    fed = []
    for layout in ("group", "contiguous"):
        before = model.runner.counters.target_tokens
        loop.measure(model, Session(target_language="fr"), ["I do not know where he lives."], [1], [layout])
        fed.append(model.runner.counters.target_tokens - before)
    assert fed[1] > 1.5 * fed[0]


def test_random_weights_write_what_the_shipped_model_writes(decalage: Decalage, text: str, tiny_shape: str) -> None:
    """So they take its passes and keep its drafts."""
    options = ("bench", "stream", "--sessions", "2", "--file", text, "--json")
    (trained,), (random,) = (decalage(*options, *shape).json["points"] for shape in ((), ("--shape", tiny_shape)))
    same = ("forwards_per_word", "passes_per_word", "tokens_per_word", "padding", "accepted_drafts")
    assert {name: random[name] for name in same} == {name: trained[name] for name in same}
    assert random["accepted_drafts"] > 0.5
