"""How long drafts may be, and what a session's own text suggests; that they change nothing is a law of the segment."""

from math import log2

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import InputTextAppend, InputTextFinalize, Session, SessionCreate, Speculation, WaitK
from tests.worker.core.drive import Driver, deltas, timeless
from tests.worker.fakes import LATIN, PROMPT, FakeModel, FakeVocabulary
from worker.core.drafting import Drafting, adapt, prompt_lookup
from worker.core.scheduler import Budget

TOKENS = st.lists(st.integers(0, 3), max_size=40).map(tuple)
STEADY = FakeModel(tokens=LATIN, eos=0.0, steadiness=1.0)


@given(kept=st.lists(st.integers(0, 8), max_size=200))
def test_the_rate_is_one(kept: list[int]) -> None:
    """Whatever comes of the drafts, their rate stays between 0 and 1, and their length follows it."""
    drafting = Drafting()
    for num_kept in kept:
        before, num_proposed = drafting, min(8, drafting.length)
        drafting = adapt(drafting, num_proposed, min(num_kept, num_proposed))
        assert 0 < drafting.rate <= 1
        assert drafting.length >= 0
        if num_proposed:
            assert (drafting.rate >= before.rate) or num_kept < num_proposed


def test_drafts_follow_their_success() -> None:
    """They grow while they come true, up to whatever bounds them; eight of ten tokens make four or five; a failure
    shortens them.
    """
    drafting, lengths = Drafting(), []
    for _ in range(4):
        lengths.append(drafting.length)
        drafting = adapt(drafting, lengths[-1], lengths[-1])
    assert lengths == sorted(set(lengths))
    assert adapt(drafting, 4, 1).length < drafting.length
    for _ in range(40):
        drafting = adapt(drafting, 5, 4)
    assert drafting.length in (4, 5, 6)


@given(num_rows=st.integers(1, 5000))
def test_what_never_comes_true_costs_next_to_nothing(num_rows: int) -> None:
    """One token is tried in the first row, one after 8 rows without, then after 16, and so on up to 256."""
    drafting, num_tried = Drafting(), 0
    for _ in range(num_rows):
        num_tried += drafting.length
        drafting = adapt(drafting, drafting.length, 0)
    assert num_tried <= 1 + log2(1 + num_rows / 8) + num_rows / 256


def test_what_always_comes_true_is_as_long_as_it_may_be_in_the_fourth_pass() -> None:
    """From one token to a worker's sixteen."""
    drafting = Drafting()
    for _ in range(3):
        drafting = adapt(drafting, min(16, drafting.length), min(16, drafting.length))
    assert drafting.length >= Budget().max_draft_tokens


def test_drafts_that_came_true_once_die_out_too_and_come_back() -> None:
    """In 2,000 rows, some fifteen tokens are tried; a single success brings them back."""
    drafting, num_tried = Drafting(rate=0.9), 0
    for _ in range(2000):
        num_tried += min(4, drafting.length)
        drafting = adapt(drafting, min(4, drafting.length), 0)
    assert num_tried < 20
    while not drafting.length:
        drafting = adapt(drafting, 0, 0)
    assert (drafting.length, drafting.pause) == (1, 256)
    assert drafting.rate < 0.3
    drafting = adapt(drafting, 1, 1)
    assert (drafting.length, drafting.pause) == (1, Drafting().pause)


@given(written=TOKENS, source=TOKENS, num_tokens=st.integers(1, 8))
def test_what_is_looked_ahead_stood_there(written: tuple[int, ...], source: tuple[int, ...], num_tokens: int) -> None:
    """A guess is at most as long as asked, and followed the last two tokens in the target or in the source."""
    ahead = prompt_lookup(written, source, num_tokens)
    assert len(ahead) <= num_tokens
    if ahead:
        wanted = (*written[-2:], *ahead)
        texts = (written, source)
        assert any(text[i : i + len(wanted)] == wanted for text in texts for i in range(len(text)))


def drive(session: Session, num_words: int, **options: object) -> Driver:
    """A whole segment of a steady model, whose drafts come true."""
    driver = Driver(STEADY, FakeVocabulary(replace(PROMPT, max_target_tokens=200)), **options)  # type: ignore[arg-type]
    driver.step(SessionCreate(session=session), InputTextAppend(text="w " * num_words), InputTextFinalize())
    return driver.run()


def test_drafts_go_on_across_words_once_all_is_read() -> None:
    """Five tokens a pass with drafts of four, in a translation that needs no more source."""
    driver = drive(Session(mode="completion"), 3, draft_quality=1.0)
    writes = [row for row in driver.rows if row.target]
    assert len(writes) <= 200 // 5 + 2
    assert {row.max_proposed for row in writes[2:-2]} == {4}


def test_a_session_its_worker_and_a_full_tick_all_bound_them() -> None:
    """The least of the session's number, the worker's, and its share of what a pass may hold."""
    asks = Session(mode="completion", speculation=Speculation(max_draft_tokens=3))
    for session, budget, most in [
        (asks, Budget(), 3),
        (Session(mode="completion"), Budget(max_draft_tokens=2), 2),
        (Session(mode="completion"), Budget(max_tick_draft_tokens=1), 1),
        (Session(mode="completion"), Budget(max_draft_tokens=0), 0),
        (Session(mode="completion", speculation=Speculation(enabled=False)), Budget(), 0),
    ]:
        driver = drive(session, 3, draft_quality=1.0, budget=budget)
        assert max(row.max_proposed for row in driver.rows) == most


def test_what_the_session_has_written_is_proposed_again() -> None:
    """A translation that goes round in circles is drafted from itself, without a drafter, in fewer passes."""
    circle = FakeModel(tokens=LATIN[:1], eos=0.0)
    vocabulary = FakeVocabulary(replace(PROMPT, max_target_tokens=60))
    fast, plain = Driver(circle, vocabulary), Driver(circle, vocabulary, budget=Budget(max_draft_tokens=0))
    for driver in (fast, plain):
        driver.step(SessionCreate(session=Session(policy=WaitK(k=9))), InputTextAppend(text="a b c"))
        driver.step(InputTextFinalize())
        driver.run()
    assert timeless(fast.events["s"]) == timeless(plain.events["s"])
    assert len(deltas(fast.events["s"])) == 58
    assert len(fast.rows) < len(plain.rows) / 3
