"""A lane may go at any moment: the segment feeds again what it held, in one pass, and nothing else changes."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from protocol import ClientEvent, InputTextAppend, InputTextFinalize, Session, SessionClose, SessionCreate, WaitK
from tests.worker.core.conftest import MODELS, QUALITIES, SESSIONS, VOCABULARIES, WORDS
from tests.worker.core.drive import Driver, deltas, timeless
from tests.worker.fakes import LATIN, FakeModel, FakeVocabulary
from worker.core.scheduler import Budget
from worker.core.state import backlog_words


def spoken(session: Session, texts: Iterable[list[str]]) -> list[ClientEvent]:
    """A whole session's log."""
    log: list[ClientEvent] = [SessionCreate(session=session)]
    for text in texts:
        log += [*(InputTextAppend(text=word) for word in text), InputTextFinalize()]
    return [*log, SessionClose()]


@given(
    model=MODELS,
    vocabulary=VOCABULARIES,
    session=SESSIONS,
    texts=st.lists(WORDS, min_size=1, max_size=2),
    ticks=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30),
    max_source_tokens=st.sampled_from([3, 512]),
    draft_quality=QUALITIES,
)
def test_evicted_and_rebuilt_is_kept(
    model: FakeModel,
    vocabulary: FakeVocabulary,
    session: Session,
    texts: list[list[str]],
    ticks: list[tuple[int, bool]],
    max_source_tokens: int,
    draft_quality: float | None,
) -> None:
    """Law: whenever lanes are evicted, also in the middle of a rebuild, the events are those of lanes that stayed."""
    log = spoken(session, texts)
    budget = Budget(max_source_tokens=max_source_tokens, min_source_tokens=1)
    driver = Driver(model, vocabulary, budget=budget, draft_quality=draft_quality)
    for i, event in enumerate(log):
        driver.step(event)
        num_ticks, is_evicted = ticks[i] if i < len(ticks) else (1, False)
        for _ in range(num_ticks):
            driver.tick()
        if is_evicted:
            driver.runner.run([], dropped=driver.evict())
    driver.run()
    kept = Driver(model, vocabulary)
    kept.step(*log)
    assert timeless(driver.events["s"]) == timeless(kept.run().events["s"])


@given(policy=st.sampled_from([WaitK(k=1), WaitK(k=3)]), num_words=st.integers(2, 30), seed=st.integers(0, 99))
def test_a_rebuild_is_one_pass(policy: WaitK, num_words: int, seed: int) -> None:
    """The row that writes the next word brings back all that the lane held: no pass is needed for it alone."""
    model = FakeModel(seed=seed, tokens=LATIN, eos=0.0)
    log = spoken(Session(policy=policy), [["word"] * num_words])[:-2]
    kept, driver = Driver(model), Driver(model)
    for each in (kept, driver):
        each.step(*log)
        each.run()
        each.step(InputTextAppend(text="more"))
    driver.runner.run([], dropped=driver.evict())
    before = len(driver.rows), len(kept.rows)
    driver.run()
    kept.run()
    assert deltas(driver.events["s"])
    assert len(driver.rows) - before[0] == len(kept.rows) - before[1]


def test_a_lane_that_is_gone_makes_no_backlog() -> None:
    """Words that have been read and translated do not count again, nor does the session seem to wait for them."""
    driver = Driver(FakeModel(tokens=LATIN, eos=0.0))
    driver.now_ms = 5
    driver.step(SessionCreate(session=Session(policy=WaitK(k=1))), InputTextAppend(text="a b c"))
    driver.run()
    driver.now_ms = 9
    driver.step(InputTextAppend(text="d"))
    driver.runner.run([], dropped=driver.evict())
    first = driver.state.segments.first
    assert first is not None
    assert first.waiting_ms == 9
    assert backlog_words(driver.state) == 1
