"""The demo as text for pipes and programs: its address, a line for each sentence, figures, one JSON document."""

import shlex
from collections.abc import Iterator

import msgspec

from protocol import Adaptive, Policy, policy_name, target_key
from worker.commands.demo_view import Sentence, Summary, View, join_words, lag_words
from worker.core.languages import language_name


class Place(msgspec.Struct, frozen=True):
    """The session of a demo, to be watched from another terminal, and its options."""

    address: str  # the broker's URL, without a password
    session_id: str
    target_language: str
    policy: Policy
    is_embedded: bool  # commands find this broker without `--redis`

    def title(self, view: View) -> str:
        """Return languages, policy and, once the session is created, the model."""
        title = f"English → {language_name(self.target_language)} · {policy_name(self.policy)}"
        return f"{title} · {view.created.model}" if view.created else title

    @property
    def max_lag_words(self) -> int:
        """The largest lag that the policy aims at."""
        return self.policy.max_k if isinstance(self.policy, Adaptive) else self.policy.k

    @property
    def redis_line(self) -> str:
        """A shell command that prints the target stream."""
        return f"redis-cli -u {shlex.quote(self.address)} XRANGE {shlex.quote(target_key(self.session_id))} - +"

    @property
    def watch_line(self) -> str:
        """A shell command that follows the translation."""
        line = f"decalage watch {self.session_id}"
        return line if self.is_embedded else f"{line} --redis {shlex.quote(self.address)}"


def header(place: Place, view: View) -> Iterator[tuple[str, str]]:
    """Yield names and values of the lines above a talk."""
    yield "demo", place.title(view)
    yield "broker", place.address
    yield "session", place.session_id
    yield "follow", place.watch_line


def pair_line(sentence: Sentence) -> str:
    """Return a finished sentence on one line, with its average lagging."""
    lag = sentence.done.average_lagging if sentence.done else None
    tail = "" if lag is None else f"  [AL {lag:.1f}]"
    return f"{join_words(sentence.spoken)} → {sentence.translation}{tail}"


def figures(summary: Summary, pace_words_per_s: float) -> Iterator[tuple[str, str]]:
    """Yield names and values of the summary, without unknown values; a pace of 0 is full speed."""
    speed = f"the speaker's pace: {pace_words_per_s:.1f}" if pace_words_per_s else "at full speed"
    own_time = ", most of it the speaker's own time" if pace_words_per_s else ""
    rows = (
        ("average lagging", summary.average_lagging_words, ".2f", "words behind the speaker (mean over sentences)"),
        ("first word", summary.first_word_delay_ms, ".0f", f"ms after its sentence began{own_time} (median)"),
        ("each word", summary.word_delay_ms, ".0f", "ms after the last source word that it waited for (median)"),
        ("speed", summary.words_per_second, ".1f", f"words/s written; {speed}"),
        ("work", summary.forwards_per_word, ".2f", f"forward passes a word, {summary.tokens_per_word} tokens a word"),
    )
    yield "words", f"{summary.source_words} in, {summary.target_words} out, in {summary.duration_s:.1f} s"
    for name, value, form, unit in rows:
        if value is not None:
            yield name, f"{value:{form}} {unit}"


def document(place: Place, view: View, summary: Summary) -> dict[str, object]:
    """Return all of a finished talk, for `--json`."""
    return {
        "broker": place.address,
        "session": place.session_id,
        "model": view.created.model if view.created else None,
        "source_language": "en",
        "target_language": place.target_language,
        "policy": policy_name(place.policy),
        "segments": [_segment(index, sentence) for index, sentence in enumerate(view.sentences)],
        "summary": msgspec.structs.asdict(summary),
    }


def _segment(index: int, sentence: Sentence) -> dict[str, object]:
    return {
        "segment": index,
        "source": join_words(sentence.spoken),
        "target": sentence.translation,
        "source_words": len(sentence.words),
        "target_words": len(sentence.target),
        "finish_reason": sentence.done.finish_reason if sentence.done else None,
        "average_lagging_words": sentence.done.average_lagging if sentence.done else None,
        "first_word_delay_ms": sentence.first_word_delay_ms,
        "words": [
            {
                "word": word.word,
                "text": word.text,
                "source_words_read": word.source_words_read,
                "lag_words": lag_words(word),
                "delay_ms": word.delay_ms,
                "elapsed_ms": word.elapsed_ms,
            }
            for word in sentence.target
        ],
    }
