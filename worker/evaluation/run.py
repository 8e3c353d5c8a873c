"""A test set through the service's session machine and engine, many sentences to a tick.

Every sentence is a session of its own, its words all there from the start: decisions depend on the log, never on
arrival, so the words and the delays are those of a live session.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import msgspec

from protocol import (
    ClientEvent,
    Error,
    InputTextAppend,
    OutputTextDelta,
    SegmentDone,
    Session,
    SessionClose,
    SessionClosed,
    SessionCreate,
)
from worker.core import scheduler, words
from worker.core import session as sessions
from worker.core.rows import Lane, Vocabulary
from worker.core.state import State, lanes
from worker.evaluation import defaults
from worker.evaluation.corpus import Sentence
from worker.evaluation.errors import UnusableSentence
from worker.evaluation.policies import policy_name
from worker.library.running import Engine, lane_numbers


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence and what a policy made of it: one line of a results file."""

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
        """Target words in a second of computing, all sentences together."""
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
    """The corpus translated with these options, up to `max_rows` sentences at a time; `on_done` after each of them.

    `has_drafter`: drafts are the engine's to add, if the session has them; else they come from a sentence's own text.
    Raises UnusableSentence, which names the line, for what the model refuses. All lanes are free after the call.
    """
    if max_rows < 1:
        raise ValueError(f"expected at least 1 row to a tick, got max_rows {max_rows}")
    hall = _Hall(engine, vocabulary, clock_s, has_drafter=has_drafter)
    waiting = list(reversed(corpus))
    found: dict[int, Translated] = {}
    began_s = clock_s()
    try:
        while waiting or hall.talks:
            while waiting and len(hall.talks) < max_rows:
                hall.open(session, waiting.pop())
            for sentence in hall.tick():
                found[sentence.line] = sentence
                on_done()
    finally:
        hall.clear()
    sentences = tuple(found[sentence.line] for sentence in corpus)
    return Run(policy_name(session), sentences, clock_s() - began_s)


class _Talk:
    """A sentence on its way through the model."""

    def __init__(self, sentence: Sentence, began_s: float) -> None:
        self.sentence = sentence
        self.began_s = began_s
        self.state = State(number=next(lane_numbers))
        self.pieces: list[str] = []
        self.delays: list[int] = []
        self.compute_ms: list[float] = []
        self.done: SegmentDone | None = None
        self.is_closed = False

    def elapsed_ms(self, now_s: float) -> float:
        return (now_s - self.began_s) * 1000

    def take(self, outcome: sessions.Outcome, now_s: float) -> None:
        self.state, events = outcome
        for event in events:
            match event:
                case OutputTextDelta():
                    self.pieces.append(event.text)
                    self.delays.append(event.source_words_read)
                    self.compute_ms.append(round(self.elapsed_ms(now_s), 3))
                case SegmentDone():
                    self.done = event
                case SessionClosed():
                    self.is_closed = True
                case Error():
                    raise UnusableSentence(f"line {self.sentence.line} of the test set: {event.message}")

    def result(self) -> Translated:
        return Translated(
            line=self.sentence.line,
            source=self.sentence.source,
            reference=self.sentence.reference,
            prediction="".join(self.pieces),
            source_words=self.done.source_words if self.done else 0,
            reference_words=count_words(self.sentence.reference),
            delays=tuple(self.delays),
            compute_ms=tuple(self.compute_ms),
            finish_reason=self.done.finish_reason if self.done else "empty",
        )


class _Hall:
    """The talks that are being translated, and the lanes that they hold."""

    def __init__(
        self, engine: Engine, vocabulary: Vocabulary, clock_s: Callable[[], float], *, has_drafter: bool
    ) -> None:
        self.talks: dict[str, _Talk] = {}
        self._engine = engine
        self._vocabulary = vocabulary
        self._clock_s = clock_s
        self._has_drafter = has_drafter
        self._held: frozenset[Lane] = frozenset()  # lanes that the engine may have

    def open(self, session: Session, sentence: Sentence) -> None:
        """The sentence is a session whose words have all arrived."""
        talk = _Talk(sentence, self._clock_s())
        events: list[ClientEvent] = [
            SessionCreate(session=session),
            InputTextAppend(text=sentence.source),
            SessionClose(),
        ]
        for event in events:
            outcome = sessions.step(talk.state, event, now_ms=0, vocabulary=self._vocabulary, model="", is_replay=True)
            talk.take(outcome, talk.began_s)
        self.talks[str(talk.state.number)] = talk

    def tick(self) -> list[Translated]:
        """One pass for all talks; those that it finished have left."""
        states = {name: talk.state for name, talk in self.talks.items()}
        self._held = self._needed()
        budget = scheduler.Budget(max_rows=len(states), has_drafter=self._has_drafter)
        tick = scheduler.plan(states, budget)
        sampled = self._engine.run(tick.rows)
        now_s = self._clock_s()
        for name, row, tokens in zip(tick.sessions, tick.rows, sampled, strict=True):
            talk = self.talks[name]
            now_ms = int(talk.elapsed_ms(now_s))
            talk.take(sessions.update(talk.state, row, tokens, now_ms=now_ms, vocabulary=self._vocabulary), now_s)
        closed = [name for name, talk in self.talks.items() if talk.is_closed]
        if not tick.rows and not closed:
            raise RuntimeError(f"{len(states)} sentences are unfinished, yet none of them wants a pass")
        found = [self.talks.pop(name).result() for name in closed]
        self._release()
        return found

    def clear(self) -> None:
        """No talk, no lane."""
        self.talks.clear()
        self._release()

    def _needed(self) -> frozenset[Lane]:
        return frozenset(lane for talk in self.talks.values() for lane in lanes(talk.state))

    def _release(self) -> None:
        needed = self._needed()
        if self._held - needed:
            self._engine.run((), dropped=self._held - needed)
        self._held = needed


def count_words(text: str) -> int:
    """A reference's length as SimulEval counts it, by its spaces; in scripts without spaces, by the core's words.

    >>> count_words("Je ne sais pas."), count_words("今日は、いい。")
    (4, 5)
    """
    if any(map(words.is_spaceless, text)):
        return len(words.split_words(text))
    return len(text.split(" "))
