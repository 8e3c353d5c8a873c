"""The translation of a whole text by the service's own sessions, without Redis, for the command line."""

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
from worker.core import rows
from worker.core.rows import Engine, Refused
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions, run, run_pass
from worker.engine.errors import EngineError, UnsupportedPrompt
from worker.engine.model import StreamingModel
from worker.engine.speculative.runner import Drafter
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import lane_numbers, runner_of
from worker.library.vocabulary import unsupported

_NAME = "local"


def split_prompt(vocabulary: Vocabulary, prompt: str, target_language: str | None = None) -> tuple[Session, str]:
    """Split a prompt into the options that it names and its words: "Translate to French: Hello" -> (… fr, "Hello").

    Raises UnsupportedPrompt (a ValueError) for an instruction that the model has not learned.
    """
    try:
        return vocabulary.prompts.split(prompt, target_language)
    except Refused as refused:
        raise unsupported(refused) from refused


def generate_words(
    model: StreamingModel, vocabulary: Vocabulary, session: Session, text: str, *, drafter: Drafter | None = None
) -> Generator[OutputTextDelta | SegmentDone]:
    """Translate `text`; yield the service's events: a delta for each word, a `segment.done` for each segment.

    `session` holds all options, of both modes; a `drafter` changes only the speed. Raises UnsupportedPrompt (a
    ValueError) for options that the model lacks or a segment that is too long for it, EngineError.
    """
    runner = runner_of(model, vocabulary)
    engine = runner if drafter is None else runner.with_drafter(drafter)
    local = LocalSession(engine, vocabulary, model.name, has_drafter=drafter is not None)
    events: list[ClientEvent] = [SessionCreate(session=session), InputTextAppend(text=text), SessionClose()]
    return _once(local, events)


def _once(local: "LocalSession", events: Iterable[ClientEvent]) -> Generator[OutputTextDelta | SegmentDone]:
    try:
        yield from local.take(events)
    finally:
        local.clear()


class LocalSession:
    """One session alone on an engine: it takes events and yields words."""

    def __init__(self, engine: Engine, vocabulary: rows.Vocabulary, model: str, *, has_drafter: bool = False) -> None:
        self._engine = engine
        self._sessions = Sessions(vocabulary, model, Budget(has_drafter=has_drafter), numbers=lane_numbers)
        self._sessions.add(_NAME)
        self._began_s = perf_counter()

    def take(self, events: Iterable[ClientEvent]) -> Generator[OutputTextDelta | SegmentDone]:
        """Take these events and yield the session's own: run passes until it needs another event.

        Raises UnsupportedPrompt (a ValueError), EngineError.
        """
        for event in events:
            # The whole text comes before the first pass, so the bound on waiting words does not apply (`is_replay`).
            yield from _published(self._sessions.step(_NAME, event, now_ms=self._now_ms(), is_replay=True))
        for update in run(self._sessions, self._engine, self._now_ms):
            yield from _published(update.events)

    def clear(self) -> None:
        """Forget the session and free its lane."""
        self._sessions.forget_all()
        run_pass(self._sessions, self._engine, self._now_ms)

    def _now_ms(self) -> int:
        return int((perf_counter() - self._began_s) * 1000)


def _published(events: Iterable[ServerEvent]) -> Generator[OutputTextDelta | SegmentDone]:
    for event in events:
        _raise_error(event)
        if isinstance(event, OutputTextDelta | SegmentDone):
            yield event


def _raise_error(event: ServerEvent) -> None:
    if isinstance(event, Error):
        raise EngineError(event.message) if event.code == "engine_error" else UnsupportedPrompt(event.message)
