"""Which policy a session asks for; and a fifth one, which is one class."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import InputTextAppend, OutputTextDelta, Session, SessionClose, SessionCreate, WaitK
from tests.worker.core.conftest import WORDS
from tests.worker.core.drive import Driver, check_stream, deltas, timeless
from tests.worker.fakes import LATIN, PROMPT, FakeModel, FakeVocabulary
from worker.core.policies import REGISTRY, Policy, policy_of
from worker.core.rows import Prompt
from worker.core.source import Source, append, begin

FRAME = Prompt(source=(1,), end=(2,), target=(3,), max_source_tokens=99, max_target_tokens=99)


def test_a_completion_waits_for_the_end() -> None:
    """Whatever policy it names: what it needs is not known before its segment has ended."""
    assert policy_of(Session(mode="completion", policy=WaitK(k=1))).num_required_words(begin(FRAME), 0) is None
    assert policy_of(Session(policy=WaitK(k=4))).num_required_words(begin(FRAME), 2) == 6


class WaitForPunctuationOptions(msgspec.Struct, frozen=True, tag_field="type", tag="wait-for-punctuation"):
    """What a session asks for: the marks that a word may end with."""

    marks: str = ".,;:!?"


class WaitForPunctuation(Policy):
    """Write a word for each that was read, but only up to a word with a punctuation mark: clause by clause."""

    def __init__(self, options: WaitForPunctuationOptions) -> None:
        self._marks = tuple(options.marks)

    def num_required_words(self, source: Source, num_words: int) -> int | None:
        """Return the number of the first word with a mark that is not before target word `num_words`."""
        ends = (i for i, word in enumerate(source.words, 1) if i > num_words and word.endswith(self._marks))
        return next(ends, None)


@pytest.fixture
def fifth(monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session with the fifth policy, which is registered."""
    monkeypatch.setitem(REGISTRY, WaitForPunctuationOptions, WaitForPunctuation)
    return Session(policy=WaitForPunctuationOptions())  # type: ignore[arg-type]  # not in the protocol


def test_a_fifth_policy_is_one_class(fifth: Session) -> None:
    """It translates through the sessions, as far as it has read."""
    driver = Driver(FakeModel(tokens=LATIN[:4], eos=0.0), FakeVocabulary(replace(PROMPT, max_target_tokens=12)))
    driver.step(SessionCreate(session=fifth))
    read: list[list[int]] = []
    for word in ("the", "cat,", "sat", "on", "it."):
        driver.step(InputTextAppend(text=word))
        before = len(driver.events["s"])
        driver.run()
        read.append([event.source_words_read for event in deltas(driver.events["s"][before:])])
    assert read == [[], [2, 2], [], [], [5, 5, 5]]
    driver.step(SessionClose())
    driver.run()
    check_stream(driver.events["s"])
    assert isinstance(driver.events["s"][-3], OutputTextDelta)


@given(model=st.builds(FakeModel, seed=st.integers(0, 99), tokens=st.just(LATIN)), source_words=WORDS)
def test_its_pace_changes_nothing(model: FakeModel, source_words: list[str]) -> None:
    """Law of every policy, and so of this one: chunked = whole."""
    REGISTRY[WaitForPunctuationOptions] = WaitForPunctuation
    try:
        session = Session(policy=WaitForPunctuationOptions())  # type: ignore[arg-type]
        whole, chunked = (Driver(model, FakeVocabulary(replace(PROMPT, max_target_tokens=40))) for _ in range(2))
        whole.step(SessionCreate(session=session), InputTextAppend(text=" ".join(source_words)), SessionClose())
        chunked.step(SessionCreate(session=session))
        for word in source_words:
            chunked.step(InputTextAppend(text=word))
            chunked.run()
        chunked.step(SessionClose())
        assert timeless(whole.run().events["s"]) == timeless(chunked.run().events["s"])
    finally:
        del REGISTRY[WaitForPunctuationOptions]


def test_options_that_nobody_carries_out() -> None:
    """The message says what is known, and where a policy is added."""
    with pytest.raises(ValueError, match=r"Adaptive.*WaitK, got WaitForPunctuationOptions; add it to .*REGISTRY"):
        policy_of(Session(policy=WaitForPunctuationOptions()))  # type: ignore[arg-type]


def test_a_source_keeps_its_words() -> None:
    """For policies that look at them."""
    source = append(append(begin(FRAME), "the", (5, 6), 10), "cat.", (7,), 20)
    assert source.words == ("the", "cat.")
    logs = [tuple(log) for log in (source.tokens, source.bounds, source.arrivals_ms)]
    assert logs == [(1, 5, 6, 7), (1, 3, 4), (10, 20)]
    assert [source.num_words_in(n) for n in range(5)] == [0, 0, 0, 1, 2]
