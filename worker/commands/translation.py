"""The translation of one text by a model in this process, for `generate`, `compare`, `live` and `doctor`.

Source words are counted across the whole text, also if the model takes it sentence by sentence.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import msgspec
from msgspec.structs import replace

from protocol import OutputTextDelta, SegmentDone, Session
from worker.commands.faults import CommandError
from worker.commands.output import busy, silence_libraries
from worker.core import words
from worker.core.languages import language_name, split_instruction


class Model(msgspec.Struct, frozen=True):
    """A loaded model and its vocabulary.

    `engine` is a `worker.engine.model.StreamingModel`, `drafter` a `worker.engine.speculative.draft_model.DraftModel`.
    """

    name: str
    engine: Any
    vocabulary: Any
    drafter: Any = None


class Task(msgspec.Struct, frozen=True):
    """A text to translate, its source words as `core.words` counts them, and all options."""

    session: Session
    text: str
    source_words: Sequence[str]


class Written(msgspec.Struct, frozen=True):
    """One target word; `text` is the word after its separator from the word before."""

    word: str
    text: str
    source_words_read: int
    tokens: tuple[int, ...]


class Translation:
    """The translation of a text: iterate over its words once, then read the figures."""

    def __init__(self, model: Model, task: Task) -> None:
        self.task = task
        self.words: list[Written] = []
        self.finish_reason = "stop"
        self.compute_s = 0.0  # time spent on the words, without that of their consumer
        self._lags: list[float] = []
        self._model = model
        self._source_words_before = 0

    def __iter__(self) -> Iterator[Written]:
        from worker.library.words import generate_words

        model = self._model
        session, text = self.task.session, self.task.text
        events = generate_words(model.engine, model.vocabulary, session, text, drafter=model.drafter)
        for event in _timed(events, self._spend):
            if isinstance(event, SegmentDone):
                self._end_segment(event)
                continue
            self.words.append(self._written(event))
            yield self.words[-1]

    def finish(self) -> "Translation":
        """Write all words, and return the translation."""
        for _ in self:
            pass
        return self

    def _written(self, delta: OutputTextDelta) -> Written:
        is_next_segment = bool(self.words) and delta.index == 0
        gap = words.separator(self.words[-1].word, delta.word) if is_next_segment else ""
        read = self._source_words_before + delta.source_words_read
        return Written(delta.word, gap + delta.text, read, delta.tokens)

    def _end_segment(self, done: SegmentDone) -> None:
        self._source_words_before += done.source_words
        if done.average_lagging is not None:
            self._lags.append(done.average_lagging)
        if done.finish_reason == "length":
            self.finish_reason = "length"

    def _spend(self, seconds: float) -> None:
        self.compute_s += seconds

    @property
    def text(self) -> str:
        """The translation so far."""
        return "".join(word.text for word in self.words)

    @property
    def num_tokens(self) -> int:
        """The number of tokens of all words."""
        return sum(len(word.tokens) for word in self.words)

    @property
    def tokens_per_s(self) -> float:
        """Tokens written in a second of computing, including the reading of the source."""
        return self.num_tokens / self.compute_s if self.compute_s else 0.0

    @property
    def words_per_s(self) -> float:
        """Words written in a second of computing."""
        return len(self.words) / self.compute_s if self.compute_s else 0.0

    @property
    def average_lagging(self) -> float | None:
        """Words by which the translation lags behind its source, the mean over its segments; None without words."""
        return sum(self._lags) / len(self._lags) if self._lags else None

    def as_json(self) -> dict[str, Any]:
        """Return the words and figures, for programs."""
        return {
            "text": self.text,
            "words": [
                {"word": word.word, "source_words_read": word.source_words_read, "tokens": list(word.tokens)}
                for word in self.words
            ],
            "source_words": len(self.task.source_words),
            "target_words": len(self.words),
            "num_tokens": self.num_tokens,
            "average_lagging": None if self.average_lagging is None else round(self.average_lagging, 3),
            "compute_s": round(self.compute_s, 4),
            "words_per_s": round(self.words_per_s, 1),
            "generation_tps": round(self.tokens_per_s, 1),
            "finish_reason": self.finish_reason,
        }


def _timed(
    events: Iterator[OutputTextDelta | SegmentDone], spend: Callable[[float], None]
) -> Iterator[OutputTextDelta | SegmentDone]:
    while True:
        start_s = perf_counter()
        event = next(events, None)
        spend(perf_counter() - start_s)
        if event is None:
            return
        yield event


def load_model(name: str) -> Model:
    """Load the model of this name, with a spinner on a terminal.

    Raises EngineError, and ImportError without the engine.
    """
    silence_libraries()
    with busy("Starting the engine"):
        from worker.engine import loading
        from worker.library.running import load, runner_of
    path = loading.model_path(name)  # a download shows its own progress
    with busy(f"Loading {name}"):
        engine, tokenizer = load(path)
        engine.name = name
        vocabulary = loading.load_vocabulary(str(path), tokenizer)
        runner_of(engine, vocabulary)  # creates the model's runner here, outside of any measurement
        return Model(name, engine, vocabulary)


def with_drafter(model: Model, name: str) -> Model:
    """Return the model with the one of this name as its drafter. Raises EngineError."""
    from worker.engine import loading
    from worker.engine.speculative.draft_model import DraftModel
    from worker.engine.thread import shared_thread

    path = loading.model_path(name)
    with busy(f"Loading {name}"):
        return replace(model, drafter=shared_thread().run(DraftModel.load, str(path), model.vocabulary))


def read_prompt(prompt: str) -> str:
    """Return the prompt, read from standard input if it is `-`. Raises CommandError for an empty one."""
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise CommandError("the prompt is empty; expected a text, such as 'Translate to French: Good morning'")
    return text


def new_task(model: Model, prompt: str, to: str | None, **options: object) -> Task:
    """Return the task of a prompt such as "Translate to French: Good morning"; `options` are fields of its session.

    Raises CommandError for a prompt without words or with two languages, UnsupportedPrompt for options that the model
    lacks.
    """
    from worker.engine.errors import UnsupportedPrompt
    from worker.library.words import split_prompt

    named, _ = split_instruction(prompt)
    if named is not None and to is not None and named != to:
        raise CommandError(f"the prompt asks for {language_name(named)}, --to for {language_name(to)}; leave one out")
    try:
        session, text = split_prompt(model.vocabulary, prompt, to)
    except UnsupportedPrompt as error:
        is_language_missing = named is None and to is None and model.vocabulary.card.prompt is not None
        hint = "; --to fr gives one" if is_language_missing else ""
        raise UnsupportedPrompt(f"{error}{hint}") from error
    if not words.source_words(text):
        raise CommandError(f"the prompt {prompt.strip()!r} has no words to translate behind its instruction")
    return Task(_filled(model, replace(session, **options)), text, words.source_words(text))


def _filled(model: Model, session: Session) -> Session:
    # A model trained on sentences gets sentences; a chat model gets its whole prompt at once.
    is_sentences = model.vocabulary.prompt(session).max_segment_words is not None
    policy = session.policy or model.vocabulary.default_policy
    return replace(session, policy=policy, segmentation="sentence" if is_sentences else "manual")
