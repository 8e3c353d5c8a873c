"""What the generators tell about every target token, and the loop that drives one segment to its end."""

from collections.abc import Generator
from time import perf_counter

import msgspec
from msgspec.structs import replace

from worker.core import segment as segments
from worker.core import settling
from worker.core.rows import Sampled
from worker.core.segment import Segment
from worker.core.words import UNFINISHED
from worker.core.writing import Word
from worker.engine.runner import Runner
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import run_row

# A library call has the engine for itself: its source need not be cut so that others get their turn.
_MAX_SOURCE_TOKENS = 1 << 20


class Response(msgspec.Struct, frozen=True):
    """One target token, told once it is known whether it completes its word."""

    token: int
    text: str  # the bare word where it is complete, else the word so far
    word_complete: bool
    source_words_read: int  # when this token's word was written
    target_words_generated: int  # complete ones, this one included
    wait_lagging: list[int]  # source words read at each of them
    prompt_tokens: int  # source tokens, prompt and end included
    generation_tokens: int  # target tokens so far, this one included
    generation_tps: float  # target tokens per second of computing, reads included
    finish_reason: str | None = None  # on the last one: "stop" at the end of the sequence, "length" at a limit


def responses(runner: Runner, segment: Segment, vocabulary: Vocabulary) -> Generator[Response]:
    """Translates a segment whose end is known; its lane is dropped at the end, also of a generator closed early.

    Raises EngineError.
    """
    shown = generated = 0
    spent_s = 0.0
    try:
        while not segment.is_finished:
            began_s = perf_counter()
            before = segment
            segment, finished, sampled = _pass(runner, segment, vocabulary)
            spent_s += perf_counter() - began_s
            told, shown = _tell(before, segment, finished, vocabulary, shown=shown)
            if segment.is_finished:
                told = _close(told, segment, sampled, vocabulary)
            for response in told:
                generated += 1
                yield replace(response, generation_tokens=generated, generation_tps=generated / max(spent_s, 1e-9))
    finally:
        runner.run((), dropped=(segment.lane,))


def _pass(runner: Runner, segment: Segment, vocabulary: Vocabulary) -> tuple[Segment, tuple[Word, ...], Sampled]:
    row = segments.row(segment, _MAX_SOURCE_TOKENS)
    if row is None:
        raise AssertionError("a segment whose end is known always wants something until it is finished")
    sampled = run_row(runner, row)
    return *settling.update(segment, row, sampled, vocabulary), sampled


def _tell(
    before: Segment, after: Segment, finished: tuple[Word, ...], vocabulary: Vocabulary, *, shown: int
) -> tuple[list[Response], int]:
    """The tokens that the pass made known, behind the `shown` ones of the current word; and how many are shown now."""
    told: list[Response] = []
    for word in finished:
        known = _unfinished(word.tokens[:-1], shown, vocabulary)
        lags = list(after.lags[: word.index])
        told += [
            _response(after, token, text, source_words_read=word.source_words_read, lags=lags) for token, text in known
        ]
        lags = [*lags, word.source_words_read]
        told.append(
            _response(
                after,
                word.tokens[-1],
                word.word,
                source_words_read=word.source_words_read,
                lags=lags,
                word_complete=True,
            )
        )
        shown = 0
    if after.word_begin != before.word_begin:
        shown = 0
    # The newest token may still turn out to complete its word; and white space alone may still be taken back.
    current = after.target[after.word_begin :]
    if not vocabulary.decode(current).strip():
        return told, shown
    known = _unfinished(current[:-1], shown, vocabulary)
    told += [
        _response(after, token, text, source_words_read=after.words_read, lags=list(after.lags))
        for token, text in known
    ]
    return told, max(shown, len(current) - 1)


def _unfinished(tokens: tuple[int, ...], shown: int, vocabulary: Vocabulary) -> list[tuple[int, str]]:
    # Each token with the word so far.
    return [
        (tokens[i], vocabulary.decode(tokens[: i + 1]).strip().rstrip(UNFINISHED)) for i in range(shown, len(tokens))
    ]


def _response(
    segment: Segment, token: int, text: str, *, source_words_read: int, lags: list[int], word_complete: bool = False
) -> Response:
    return Response(
        token=token,
        text=text,
        word_complete=word_complete,
        source_words_read=source_words_read,
        target_words_generated=len(lags),
        wait_lagging=lags,
        prompt_tokens=len(segment.source),
        generation_tokens=0,
        generation_tps=0.0,
    )


def _close(told: list[Response], segment: Segment, sampled: Sampled, vocabulary: Vocabulary) -> list[Response]:
    # The reason goes with the last token; where the pass brought none, with the one that ended the sequence.
    if not told:
        ends = [token for token in sampled.tokens if token in vocabulary.eos_tokens]
        token = ends[0] if ends else segment.target[-1]
        told = [_response(segment, token, "", source_words_read=segment.words_read, lags=list(segment.lags))]
    return [*told[:-1], replace(told[-1], finish_reason=segment.finish_reason)]
