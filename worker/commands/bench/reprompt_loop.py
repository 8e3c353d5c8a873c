"""The cost of a word with the dual cache and by prompting again, at several lengths of one segment."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, cycle, islice, pairwise
from statistics import fmean
from time import perf_counter
from typing import Any

import mlx.core as mx
import msgspec
from mlx_lm.models.cache import make_prompt_cache

from protocol import InputTextAppend, Session, WaitK
from worker.commands.bench.forced import Forced
from worker.commands.bench.machine import machine_facts
from worker.commands.bench.models import Harness, Subject
from worker.commands.bench.page import Page, Plot, Sheet
from worker.commands.bench.progress import tracked
from worker.commands.bench.script import PLAIN, Recorded, Script, Unlimited, record
from worker.commands.bench.sessions import close, create, hear, write
from worker.commands.faults import CommandError
from worker.commands.talk import Words
from worker.core.intake import MAX_SEGMENT_WORDS
from worker.core.rows import Engine, Lane, Output, Row, SampleSpec
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.evaluation.policies import policy_name

_CHUNK_TOKENS = Budget().max_source_tokens
_PREFILL_TOKENS = 2048  # the chunk of mlx-lm's own generation


class Workload(msgspec.Struct, frozen=True):
    """The lengths to measure at, and the words measured."""

    source_words: tuple[int, ...]
    words: int  # measured at each of them
    sessions: int  # that hear and write the same words
    layout: str | None  # None: the model's own


class Point(msgspec.Struct, frozen=True):
    """The figures at one number of source words read."""

    source_words: int
    tokens: int  # prompt, source and target so far
    dual_ms: float  # until each session has written a word, mean
    reprompt_ms: float  # the same
    ratio: float
    passes_per_word: float  # of the dual cache
    is_beyond: bool  # longer than the segments that the model was trained on


class Reprompting(msgspec.Struct, frozen=True):
    """All points of one run on one machine."""

    model: Subject
    policy: str
    layout: str
    workload: Workload
    max_segment_words: int | None  # of the segments that the model was trained on; None: unknown
    machine: dict[str, Any]
    points: tuple[Point, ...]


def measure(harness: Harness, session: Session, sentences: Sequence[Words], workload: Workload) -> Reprompting:
    """Measure the cost of a word at each length. Raises CommandError for a length below k."""
    if min(workload.source_words) < _lag(session):
        raise CommandError(f"expected --at of at least k = {_lag(session)} words, got {min(workload.source_words)}")
    machine, recorded = machine_facts(), record(harness, session, sentences)
    harness = harness.in_layout(workload.layout)
    limit = _limit(harness, session)
    text = tuple(islice(cycle(chain.from_iterable(sentences)), max(workload.source_words) + workload.words))
    talk = _Talk(harness, session, text, recorded, workload)
    points = [_point(talk, number) for number in tracked(sorted(set(workload.source_words)), "lengths")]
    return Reprompting(harness.subject, policy_name(session), harness.layout, workload, limit, machine, tuple(points))


class _Rehearsed:
    """An engine that writes the words of the script. Until `perform`, it computes nothing and only notes its rows."""

    def __init__(self, runner: Runner, script: Script) -> None:
        self._runner, self._script = runner, script
        self._forced = Forced(runner, teacher=script)
        self._noted: dict[Lane, Row] = {}  # all that each lane has been fed, as one row
        self._is_live = False

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> Sequence[Output]:
        if self._is_live:
            return self._forced.run(rows, dropped)
        for row in rows:
            noted = self._noted.get(row.lane)
            source, target = (noted.source, noted.target[: row.target_start]) if noted else ((), ())
            self._noted[row.lane] = _row(row, source + row.source, target + row.target, 0)
        return self._script.run(rows)

    def perform(self) -> None:
        """Fill the lanes with the noted tokens, and compute every row from now on."""
        for row in self._noted.values():
            for start in range(0, len(row.source), _CHUNK_TOKENS):
                self._runner.run([_row(row, row.source[start : start + _CHUNK_TOKENS], (), 0)])
            for start in range(0, len(row.target), _CHUNK_TOKENS):
                self._runner.run([_row(row, (), row.target[start : start + _CHUNK_TOKENS], start)])
        self._is_live = True


def _row(row: Row, source: tuple[int, ...], target: tuple[int, ...], target_start: int) -> Row:
    return Row(row.lane, source, target, target_start, 0, SampleSpec(), row.is_contiguous)


class _Talk(msgspec.Struct, frozen=True):
    """The segment of each session: its source, and the recorded translation."""

    harness: Harness
    session: Session
    text: Words
    recorded: Recorded
    workload: Workload


def _point(talk: _Talk, number: int) -> Point:
    dual_ms, again_ms, passes = _timed(talk, number)
    limit = _limit(talk.harness, talk.session)
    mine, other = fmean(dual_ms), fmean(again_ms)
    return Point(
        source_words=number,
        tokens=len(_prompt(talk, number + 1)[0]),
        dual_ms=round(mine, 3),
        reprompt_ms=round(other, 3),
        ratio=round(other / mine, 2),
        passes_per_word=round(passes / len(dual_ms), 3),
        is_beyond=limit is not None and number > limit,
    )


def _limit(harness: Harness, session: Session) -> int | None:
    # Random weights have no training, hence no limit.
    if harness.subject.weights != "trained":
        return None
    limit: int | None = harness.vocabulary.prompt(session).max_segment_words
    return limit or (MAX_SEGMENT_WORDS if harness.layout == "contiguous" else None)


def _timed(talk: _Talk, number: int) -> tuple[list[float], list[float], int]:
    """Return the milliseconds of each word written after `number` source words, the same by prompting again, in turns
    because the speed of a machine varies, and the passes of all.
    """
    harness, vocabulary, num_words = talk.harness, Unlimited(talk.harness.vocabulary), talk.workload.words
    engine = _Rehearsed(harness.runner, _script(talk, number + num_words))
    sessions = harness._replace(vocabulary=vocabulary).sessions(PLAIN)
    for i in range(talk.workload.sessions):
        create(sessions, f"session {i}", talk.session)
    _say(sessions, engine, talk.text[: number - 1])
    engine.perform()
    _say(sessions, engine, talk.text[number - 1 : number])  # a warm-up, not measured
    passes, spent_ms, again_ms = harness.runner.counters.passes, [], []
    for i, word in enumerate(talk.text[number : number + num_words], number + 1):
        start_s = perf_counter()
        written = _say(sessions, engine, (word,))
        spent_ms += [1000 * (perf_counter() - start_s) / written] * written
        again_ms.append(_reprompted_ms(harness.runner.model, talk.workload.sessions, *_prompt(talk, i)))
    passes = harness.runner.counters.passes - passes
    close(sessions, engine)
    return spent_ms, again_ms, passes


def _say(sessions: Sessions, engine: Engine, words: Words) -> int:
    """Append the words to each session, run passes until nothing is left to write, and return how many words each has
    written.
    """
    for name in sessions:
        hear(sessions, name, InputTextAppend(text=" ".join(words)))
    num_written = 0
    while (written := write(sessions, engine)) is not None:
        num_written += len(written)
    return num_written // len(sessions)


def _script(talk: _Talk, number: int) -> Script:
    vocabulary = talk.harness.vocabulary
    return Script(talk.recorded, number + 1, vocabulary.prompt(talk.session), vocabulary)


def _prompt(talk: _Talk, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the prompt of the target word after `number` source words, and the tokens of that word."""
    vocabulary, prompt = talk.harness.vocabulary, talk.harness.vocabulary.prompt(talk.session)
    heard = pairwise(("", *talk.text[:number]))
    source = [token for before, word in heard for token in vocabulary.encode_word(word, before)]
    *written, word = _script(talk, number).word_tokens[: number - _lag(talk.session) + 1]
    target = chain.from_iterable(written)
    return (*prompt.source, *source, *prompt.end, *prompt.target, *target), word


def _lag(session: Session) -> int:
    return session.policy.k if isinstance(session.policy, WaitK) else 0


def _reprompted_ms(model: StreamingModel, number: int, tokens: Sequence[int], word: Sequence[int]) -> float:
    # All prompts are alike, so that nothing in their batch is padding.
    run: Callable[..., mx.array] = model.inner
    start_s = perf_counter()
    cache, fed = make_prompt_cache(model.inner), 0
    while fed < len(tokens) - 1:
        chunk = tokens[fed : min(fed + _PREFILL_TOKENS, len(tokens) - 1)]
        run(mx.array([chunk] * number), cache=cache)
        mx.eval([layer.state for layer in cache])  # without the logits, which are not needed
        fed += len(chunk)
    for token in (tokens[-1], *word):  # the token after the word's last one shows that it has ended
        mx.argmax(run(mx.array([[token]] * number), cache=cache)[:, -1], axis=-1).tolist()
    return 1000 * (perf_counter() - start_s)


def page(report: Reprompting) -> Page:
    """Lay the report out."""
    rows = [
        (
            f"{point.source_words:,}{'*' if point.is_beyond else ''}",
            f"{point.tokens:,}",
            f"{point.passes_per_word:.2f}",
            f"{point.dual_ms:,.1f}",
            f"{point.reprompt_ms:,.1f}",
            f"{point.ratio:,.1f}×",
        )
        for point in report.points
    ]
    columns = ("source words", "tokens", "passes", "dual cache, ms", "re-prompting, ms", "ratio")
    number = report.workload.sessions
    among = f", {number} sessions" if number > 1 else ""
    return Page(
        title=f"A word behind a long text with {report.model}, {report.policy}, {report.layout} layout{among}",
        sheets=(Sheet(columns, tuple(rows)),),
        notes=_notes(report),
        plot=Plot(
            x="source words read",
            y="cost of a target word (ms)",
            lines={
                "dual cache": tuple((point.source_words, point.dual_ms) for point in report.points),
                "re-prompting": tuple((point.source_words, point.reprompt_ms) for point in report.points),
            },
            has_log_x=True,
            has_log_y=True,
        ),
    )


def _notes(report: Reprompting) -> tuple[str, ...]:
    notes = [
        f"Cost of a target word, mean of the same {report.workload.words}; tokens: prompt, source and target so far.",
        "Re-prompting fills a fresh cache with all of them for every word, by mlx-lm, with the same weights.",
    ]
    if (number := report.workload.sessions) > 1:
        notes.append(f"A word of each of {number} sessions, until all have it; both batch them, without any padding.")
    if report.model.weights == "random":
        notes.append("Random weights: the words are those that the shipped model wrote of single sentences.")
    if any(point.is_beyond for point in report.points):
        notes.append(
            f"* Longer than the {report.max_segment_words} words that this model takes in a segment: the cost is real, "
            "the words are those that it wrote of single sentences."
        )
    return tuple(notes)
