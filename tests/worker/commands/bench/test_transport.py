"""`decalage bench transport`: words through Redis and a service without a model."""

from pathlib import Path

import pytest

from protocol import (
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    OutputTextDelta,
    SegmentDone,
    SessionCreate,
)
from tests.worker.commands.bench.conftest import Once
from tests.worker.commands.conftest import Decalage
from worker.commands.bench import transport_loop as loop
from worker.commands.bench.transport_load import Load
from worker.commands.bench.transport_null import SESSION, null_engine
from worker.core import scheduler
from worker.core import session as machine
from worker.core.state import State


def test_delays_have_a_baseline(decalage: Decalage, once: Once, tmp_path: Path) -> None:
    """Every load has the delays of its words beside those of Redis alone, also in the picture, and a row in the table;
    commits stand beside plain appends.
    """
    once(loop)
    picture = tmp_path / "transport.png"
    options = ("--load", "3x20", "--seconds", "1", "--commits", "4")
    ran = decalage("bench", "transport", *options, "--plot", str(picture), "--json")
    assert (ran.status, picture.read_bytes()[:4]) == (0, b"\x89PNG")
    (point,) = ran.json["points"]
    assert point["sessions"] == 3
    assert 20 <= point["num_delays"] <= 60
    assert 0 < point["p50_ms"] <= point["p99_ms"]
    assert 0 < point["plain_p50_ms"] <= point["plain_p99_ms"]
    assert point["hundredths_ms"] == sorted(point["hundredths_ms"])
    assert (point["p50_ms"], point["p99_ms"]) == (point["hundredths_ms"][49], point["hundredths_ms"][98])
    assert point["words_per_s"] > 0
    commits = ran.json["commits"]
    assert commits["per_tick"] == 4
    assert commits["commits_per_s"] > 0 < commits["xadds_per_s"]
    out = decalage("bench", "transport", *options).out
    assert "│ " in out
    assert "Commits, 4 in a pipeline" in out


def test_loads_and_commits_are_not_needed(decalage: Decalage) -> None:
    """Commits alone have no table; without either, nothing is measured."""
    out = decalage("bench", "transport", "--load", "--seconds", "1", "--commits", "4").out
    assert "Commits, 4 in a pipeline" in out
    assert "│ " not in out
    assert loop.measure([], 1, 0).commits is None


@pytest.mark.parametrize("load", ["500", "x", "0x1", "5x0", "5x-1", "5x1x1"])
def test_a_load_is_sessions_and_words(load: str, decalage: Decalage) -> None:
    """Anything else is a usage error."""
    assert decalage("bench", "transport", "--load", load).status == 2


def test_words_are_spread_over_the_time() -> None:
    """Each session has its pace, and no two speak at once."""
    words = list(Load(sessions=4, words_per_s=2.0).words(3.0))
    assert len(words) == 24
    assert [due for due, *_ in words] == sorted({due for due, *_ in words})
    assert [number for _, session, number in words if session == 2] == list(range(6))


async def test_the_null_engine_says_what_it_hears() -> None:
    """Each word comes back with the pass that read it; the end brings no word more."""
    engine = null_engine()
    state, said = State(number=0), []
    for event in _events("7 8 9"):
        state, events = machine.step(state, event, now_ms=1, vocabulary=engine.vocabulary, model="null")
        while (row := scheduler.wants(state, scheduler.Budget())) is not None:
            (sampled,), _ = await engine.run([row], ())
            state, more, _ = machine.update(state, row, sampled, now_ms=1, vocabulary=engine.vocabulary)
            events += more
        said.append([event.word for event in events if isinstance(event, OutputTextDelta)])
        closed = events
    await engine.run((), [(0, 0)])
    engine.stop()
    assert said == [[], ["7"], ["8"], ["9"], []]
    assert [event.text for event in closed if isinstance(event, SegmentDone)] == ["7 8 9"]


def _events(text: str) -> list[ClientEvent]:
    words: list[ClientEvent] = [InputTextAppend(text=word) for word in text.split()]
    return [SessionCreate(session=SESSION), *words, InputTextFinalize()]
