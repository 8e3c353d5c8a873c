"""A whole text through the service's own session machine, without Redis: what the command line prints."""

from collections.abc import Generator, Iterable
from time import perf_counter

from protocol import (
    ClientEvent,
    Error,
    InputTextAppend,
    OutputTextDelta,
    SegmentDone,
    ServerEvent,
    Session,
    SessionClose,
    SessionCreate,
)
from worker.core import rows as ports
from worker.core import session as sessions
from worker.core.rows import Refused
from worker.core.scheduler import Budget, wants
from worker.core.state import State, lanes
from worker.engine.errors import EngineError, UnsupportedPrompt
from worker.engine.model import StreamingModel
from worker.engine.speculative.runner import Drafter, SpeculativeRunner
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import Engine, lane_numbers, runner_of
from worker.library.vocabulary import unsupported


def split_prompt(vocabulary: Vocabulary, prompt: str, target_language: str | None = None) -> tuple[Session, str]:
    """The options that a one-off prompt names, and its words: "Translate to French: Hello" -> (… fr, "Hello").

    Raises UnsupportedPrompt (a ValueError) for an instruction that the model has not learned.
    """
    try:
        return vocabulary.prompts.split(prompt, target_language)
    except Refused as refused:
        raise unsupported(refused) from refused


def generate_words(
    model: StreamingModel, vocabulary: Vocabulary, session: Session, text: str, *, drafter: Drafter | None = None
) -> Generator[OutputTextDelta | SegmentDone]:
    """The words of `text` translated, as the service publishes them: a delta for each, a `segment.done` a segment.

    `session` holds all options, both modes included; a `drafter` changes the speed only. Raises UnsupportedPrompt (a
    ValueError) for options that the model lacks or a segment that is too long for it, EngineError.
    """
    runner = runner_of(model, vocabulary)
    engine = runner if drafter is None else SpeculativeRunner(runner, drafter)
    local = LocalSession(engine, vocabulary, model.name, has_drafter=drafter is not None)
    events: list[ClientEvent] = [SessionCreate(session=session), InputTextAppend(text=text), SessionClose()]
    return _once(local, events)


def _once(local: "LocalSession", events: Iterable[ClientEvent]) -> Generator[OutputTextDelta | SegmentDone]:
    try:
        yield from local.take(events)
    finally:
        local.clear()


class LocalSession:
    """One session between events and passes; owns its state and its lanes.

    `runner` is what runs the passes: `worker.engine.runner.Runner`, or the oracle around it.
    """

    def __init__(self, runner: Engine, vocabulary: ports.Vocabulary, model: str, *, has_drafter: bool = False) -> None:
        self._runner = runner
        self._budget = Budget(has_drafter=has_drafter)
        self._vocabulary = vocabulary
        self._model = model
        self._state = State(number=next(lane_numbers))
        self._began_s = perf_counter()

    def take(self, events: Iterable[ClientEvent]) -> Generator[OutputTextDelta | SegmentDone]:
        """What the session says once it has these events: passes run until it wants none before its next word.

        Raises UnsupportedPrompt (a ValueError), EngineError.
        """
        for event in events:
            yield from self._published(self._take(event))
        while (row := wants(self._state, self._budget)) is not None:
            sampled = self._runner.run([row])[0]
            outcome = sessions.update(self._state, row, sampled, now_ms=self._now_ms(), vocabulary=self._vocabulary)
            yield from self._published(outcome)

    def clear(self) -> None:
        """The lanes are free: nothing more can be said."""
        self._runner.run((), dropped=lanes(self._state))

    def _take(self, event: ClientEvent) -> sessions.Outcome:
        # The whole text is here before the first pass: the bound on words that wait is not for it.
        return sessions.step(
            self._state, event, now_ms=self._now_ms(), vocabulary=self._vocabulary, model=self._model, is_replay=True
        )

    def _published(self, outcome: sessions.Outcome) -> list[OutputTextDelta | SegmentDone]:
        before, (self._state, events) = self._state, outcome
        self._runner.run((), dropped=lanes(before) - lanes(self._state))
        for event in events:
            _raise_error(event)
        return [event for event in events if isinstance(event, OutputTextDelta | SegmentDone)]

    def _now_ms(self) -> int:
        return int((perf_counter() - self._began_s) * 1000)


def _raise_error(event: ServerEvent) -> None:
    if isinstance(event, Error):
        raise EngineError(event.message) if event.code == "engine_error" else UnsupportedPrompt(event.message)
