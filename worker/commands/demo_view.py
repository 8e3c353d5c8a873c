"""The state of the demo: the words spoken, the events received, and the figures computed from them.

Pure: time is an argument, in milliseconds of any clock. `decalage demo` speaks one segment per sentence, so the segment
with index i translates sentence i.
"""

import statistics
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from protocol import OutputTextDelta, SegmentDone, ServerEvent, SessionCreated
from worker.commands.talk import Words
from worker.core.words import separator

_NO_MS: Final = -1


class Sentence(msgspec.Struct, frozen=True):
    """One sentence of the talk, with its words spoken and its target words received so far."""

    words: Words
    num_spoken_words: int = 0
    began_ms: int = _NO_MS  # when its first word was spoken
    first_heard_ms: int = _NO_MS  # when its first target word was heard
    target: tuple[OutputTextDelta, ...] = ()
    done: SegmentDone | None = None

    @property
    def spoken(self) -> Words:
        """The words spoken so far."""
        return self.words[: self.num_spoken_words]

    @property
    def num_read_words(self) -> int:
        """The number of spoken words that the worker is known to have read."""
        return self.num_spoken_words if self.done else max((word.source_words_read for word in self.target), default=0)

    @property
    def is_whole(self) -> bool:
        """Whether all its words have been spoken."""
        return self.num_spoken_words == len(self.words)

    @property
    def first_word_delay_ms(self) -> int | None:
        """The time from its first source word to its first target word; None before that."""
        return None if _NO_MS in (self.began_ms, self.first_heard_ms) else self.first_heard_ms - self.began_ms

    @property
    def translation(self) -> str:
        """The target text so far."""
        return self.done.text if self.done else "".join(word.text for word in self.target)


class View(msgspec.Struct, frozen=True):
    """The state of the whole talk."""

    sentences: tuple[Sentence, ...]
    created: SessionCreated | None = None
    began_ms: int = _NO_MS
    latest_ms: int = _NO_MS

    @property
    def current(self) -> int:
        """The index of the sentence to show: the first in translation, else the last one spoken."""
        begun = [index for index, sentence in enumerate(self.sentences) if sentence.num_spoken_words]
        return next((index for index in begun if not self.sentences[index].done), begun[-1] if begun else 0)

    @property
    def finished(self) -> tuple[Sentence, ...]:
        """The sentences before the current one."""
        return self.sentences[: self.current]

    @property
    def num_source_words(self) -> int:
        """The number of words spoken so far."""
        return sum(sentence.num_spoken_words for sentence in self.sentences)

    @property
    def heard(self) -> tuple[OutputTextDelta, ...]:
        """All target words received so far."""
        return tuple(word for sentence in self.sentences for word in sentence.target)


class Summary(msgspec.Struct, frozen=True):
    """The figures of a talk; None without data. Medians and means as named."""

    segments: int
    source_words: int
    target_words: int
    duration_s: float
    words_per_second: float | None  # target words
    average_lagging_words: float | None  # mean over segments
    first_word_delay_ms: float | None  # median over segments: first source word spoken -> first target word heard
    word_delay_ms: float | None  # median over words: last word needed arrived -> target word written
    tokens_per_word: float | None
    forwards_per_word: float | None


def begin(sentences: Sequence[Words]) -> View:
    """Return the view before the first word of these sentences."""
    return View(tuple(Sentence(words) for words in sentences))


def speak(view: View, index: int, now_ms: int) -> View:
    """Return the view after one more spoken word of sentence `index`."""
    sentence = view.sentences[index]
    began_ms = now_ms if sentence.began_ms == _NO_MS else sentence.began_ms
    spoken = replace(sentence, num_spoken_words=sentence.num_spoken_words + 1, began_ms=began_ms)
    view = view if view.began_ms != _NO_MS else replace(view, began_ms=now_ms)
    return _with(view, index, spoken, now_ms)


def hear(view: View, event: ServerEvent, now_ms: int) -> View:
    """Return the view after an event."""
    match event:
        case SessionCreated():
            return replace(view, created=event)
        case OutputTextDelta():
            sentence = view.sentences[event.segment]
            first_ms = now_ms if sentence.first_heard_ms == _NO_MS else sentence.first_heard_ms
            grown = replace(sentence, target=(*sentence.target, event), first_heard_ms=first_ms)
            return _with(view, event.segment, grown, now_ms)
        case SegmentDone():
            return _with(view, event.segment, replace(view.sentences[event.segment], done=event), now_ms)
        case _:
            return view


def _with(view: View, index: int, sentence: Sentence, now_ms: int) -> View:
    sentences = (*view.sentences[:index], sentence, *view.sentences[index + 1 :])
    return replace(view, sentences=sentences, latest_ms=now_ms)


def lag_words(word: OutputTextDelta) -> int:
    """Return the source words read beyond the word written."""
    return word.source_words_read - word.index


def join_words(words: Sequence[str]) -> str:
    """Join words into running text.

    >>> join_words(["Good", "morning."])
    'Good morning.'
    """
    text = ""
    for word in words:
        text += separator(text[-1:], word) + word
    return text


def summarize(view: View, num_forwards: int | None = None) -> Summary:
    """Return the figures so far; `num_forwards`: forward passes of this talk, if known."""
    words = view.heard
    lags = [sentence.done.average_lagging for sentence in view.sentences if sentence.done]
    delays_ms = [sentence.first_word_delay_ms for sentence in view.sentences]
    first_ms = [delay_ms for delay_ms in delays_ms if delay_ms is not None]
    duration_s = max(0, view.latest_ms - view.began_ms) / 1000
    return Summary(
        segments=len(lags),
        source_words=view.num_source_words,
        target_words=len(words),
        duration_s=duration_s,
        words_per_second=_ratio(len(words), duration_s),
        average_lagging_words=_mean([lag for lag in lags if lag is not None]),
        first_word_delay_ms=statistics.median(first_ms) if first_ms else None,
        word_delay_ms=statistics.median(word.delay_ms for word in words) if words else None,
        tokens_per_word=_ratio(sum(len(word.tokens) for word in words), len(words)),
        forwards_per_word=_ratio(num_forwards, len(words)),
    )


def _ratio(count: int | None, total: float) -> float | None:
    return round(count / total, 2) if count and total else None


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.fmean(values), 3) if values else None
