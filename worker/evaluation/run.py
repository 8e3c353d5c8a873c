"""Translating a test set with the service's session machine and engine, many sentences to a pass.

Every sentence is a session whose words are all there from the start: decisions depend on the log, never on arrival
times, so the words and the delays are those of a live session.
"""

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter

import msgspec

from protocol import (
    ClientEvent,
    Error,
    InputTextAppend,
    OutputTextDelta,
    SegmentDone,
    ServerEvent,
    Session,
    SessionClose,
    SessionClosed,
    SessionCreate,
)
from worker.core import words
from worker.core.rows import Engine, Vocabulary
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions, run_pass
from worker.evaluation import defaults
from worker.evaluation.corpus import Sentence
from worker.evaluation.errors import UnusableSentence
from worker.evaluation.policies import policy_name
from worker.library.running import lane_numbers


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence and its translation under a policy: one line of a results file."""

    line: int
    source: str
    reference: str
    prediction: str
    source_words: int
    reference_words: int
    delays: tuple[int, ...]  # source words read before each target word
    # Computing time from the sentence's first pass to each target word, the passes shared with other sentences.
    compute_ms: tuple[float, ...]
    finish_reason: str


class Run(msgspec.Struct, frozen=True):
    """A test set under one policy, in the test set's order."""

    policy: str
    sentences: tuple[Translated, ...]
    compute_s: float  # from the first pass to the end of the last

    @property
    def num_words(self) -> int:
        """Target words of all sentences."""
        return sum(len(sentence.delays) for sentence in self.sentences)

    @property
    def words_per_s(self) -> float:
        """Target words of all sentences for each second of computing."""
        return self.num_words / self.compute_s if self.compute_s else 0.0


def translate(
    engine: Engine,
    vocabulary: Vocabulary,
    session: Session,
    corpus: Sequence[Sentence],
    *,
    max_rows: int = defaults.ROWS,
    has_drafter: bool = False,
    on_done: Callable[[], None] = lambda: None,
    clock_s: Callable[[], float] = perf_counter,
) -> Run:
    """Translate the corpus with these options, up to `max_rows` sentences at a time; call `on_done` after each of them.

    `has_drafter`: drafts are the engine's to add, if the session has them; else they come from a sentence's own text.
    Raises UnusableSentence, which names the line, for what the model refuses. All lanes are freed.
    """
    if max_rows < 1:
        raise ValueError(f"expected at least 1 row to a pass, got max_rows {max_rows}")
    sessions = Sessions(vocabulary, "", Budget(max_rows=max_rows, has_drafter=has_drafter), numbers=lane_numbers)
    talks: dict[str, _Talk] = {}
    translated: dict[int, Translated] = {}
    waiting = list(reversed(corpus))
    began_s = clock_s()
    try:
        while waiting or talks:
            while waiting and len(talks) < max_rows:
                talk = _open(sessions, session, waiting.pop(), clock_s())
                talks[talk.name] = talk
            for talk in _run_pass(sessions, engine, talks, clock_s):
                translated[talk.sentence.line] = talk.result()
                on_done()
    finally:
        sessions.forget_all()
        run_pass(sessions, engine, lambda: 0)
    sentences = tuple(translated[sentence.line] for sentence in corpus)
    return Run(policy_name(session), sentences, clock_s() - began_s)


def _open(sessions: Sessions, session: Session, sentence: Sentence, now_s: float) -> "_Talk":
    # The sentence is a session whose words have all arrived.
    talk = _Talk(sentence, now_s)
    sessions.add(talk.name)
    events: list[ClientEvent] = [SessionCreate(session=session), InputTextAppend(text=sentence.source), SessionClose()]
    for event in events:
        talk.take(sessions.step(talk.name, event, now_ms=0, is_replay=True), now_s)
    return talk


def _run_pass(
    sessions: Sessions, engine: Engine, talks: dict[str, "_Talk"], clock_s: Callable[[], float]
) -> list["_Talk"]:
    # Run one pass for all talks, and remove the finished ones.
    updates = run_pass(sessions, engine, lambda: int(clock_s() * 1000))
    now_s = clock_s()
    for update in updates or ():
        talks[update.name].take(update.events, now_s)
    finished = [talk for talk in talks.values() if talk.is_closed]
    if updates is None and not finished:
        raise RuntimeError(f"{len(talks)} sentences are unfinished, yet none of them wants a pass")
    for talk in finished:
        sessions.forget(talk.name)
        del talks[talk.name]
    return finished


class _Talk:
    """A sentence being translated."""

    def __init__(self, sentence: Sentence, began_s: float) -> None:
        self.name = str(sentence.line)
        self.sentence = sentence
        self.began_s = began_s
        self.pieces: list[str] = []
        self.delays: list[int] = []
        self.compute_ms: list[float] = []
        self.source_words = 0  # of its finished segments
        self.finish_reason = "empty"
        self.is_closed = False

    def take(self, events: Iterable[ServerEvent], now_s: float) -> None:
        """Collect the events that the session publishes. Raises UnusableSentence."""
        for event in events:
            match event:
                case OutputTextDelta():
                    self.pieces.append(event.text)
                    self.delays.append(self.source_words + event.source_words_read)
                    self.compute_ms.append(round((now_s - self.began_s) * 1000, 3))
                case SegmentDone():
                    self.source_words += event.source_words
                    self.finish_reason = event.finish_reason
                case SessionClosed():
                    self.is_closed = True
                case Error():
                    raise UnusableSentence(f"line {self.sentence.line} of the test set: {event.message}")

    def result(self) -> Translated:
        """Return the line of a results file."""
        return Translated(
            line=self.sentence.line,
            source=self.sentence.source,
            reference=self.sentence.reference,
            prediction="".join(self.pieces),
            source_words=self.source_words,
            reference_words=count_words(self.sentence.reference),
            delays=tuple(self.delays),
            compute_ms=tuple(self.compute_ms),
            finish_reason=self.finish_reason,
        )


def count_words(text: str) -> int:
    """Count words by spaces, as SimulEval does for references; in scripts without spaces, count the core's words.

    >>> count_words("Je ne sais pas."), count_words("今日は、いい。")
    (4, 5)
    """
    if any(map(words.is_spaceless, text)):
        return len(words.split_words(text))
    return len(text.split(" "))
