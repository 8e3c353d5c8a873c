"""The library's answers: one `Response` for every target token of a segment."""

from collections.abc import Generator, Sequence
from time import perf_counter

import msgspec
from msgspec.structs import replace

from protocol import OutputTextDelta
from worker.core.rows import Engine, Failed, sampled_tokens
from worker.core.scheduler import Budget
from worker.core.segment import Segment, target_tokens
from worker.core.sessions import Sessions, Update, run, run_pass
from worker.core.state import Segments, State
from worker.core.words import UNFINISHED
from worker.core.writing import copy
from worker.engine.errors import EngineError
from worker.engine.text.tokenizer import Vocabulary

# A library call has the engine to itself, so its source need not be cut into chunks.
_ALONE = Budget(max_source_tokens=1 << 20, max_pass_tokens=1 << 20, max_draft_tokens=0)


class Response(msgspec.Struct, frozen=True):
    """One target token, yielded once nothing can change it and it is known whether it completes its word."""

    token: int
    text: str  # the bare word if it is complete, else the word so far
    word_complete: bool
    source_words_read: int  # when this token's word was written
    target_words_generated: int  # complete ones, this one included
    wait_lagging: list[int]  # source words read at each of them
    prompt_tokens: int  # source tokens, prompt and end included
    generation_tokens: int  # target tokens so far, this one included
    generation_tps: float  # target tokens per second of computing, reads included
    finish_reason: str | None = None  # on the last one: "stop" at the end of the sequence, "length" at a limit


def responses(
    engine: Engine, segment: Segment, vocabulary: Vocabulary, *, source_tokens: Sequence[tuple[int, ...]]
) -> Generator[Response]:
    """Translate a segment whose end is known; free its lane at the end, also if the generator is closed early.

    `source_tokens` are the tokens of each word of the text, also where the model reads none. Raises EngineError.
    """
    if segment.source.is_copied:
        yield from _copied(segment, source_tokens, vocabulary)
        return
    sessions = Sessions(vocabulary, "", _ALONE)
    sessions.add("", State(number=segment.lane[0], segments=Segments(segment)))
    shown = generated = 0
    spent_s, resumed_s = 0.0, perf_counter()
    try:
        for update in run(sessions, engine, lambda: 0):
            spent_s += perf_counter() - resumed_s
            news, shown = _news(update, vocabulary, shown=shown)
            for response in news:
                generated += 1
                yield replace(response, generation_tokens=generated, generation_tps=generated / max(spent_s, 1e-9))
            resumed_s = perf_counter()
    finally:
        sessions.forget_all()
        run_pass(sessions, engine, lambda: 0)


def _copied(segment: Segment, source_tokens: Sequence[tuple[int, ...]], vocabulary: Vocabulary) -> Generator[Response]:
    # A copied segment yields the tokens of its source, without a pass.
    segment, words = copy(segment)
    read, generated = segment.source.num_words, 0
    for n, (tokens, word) in enumerate(zip(source_tokens, words, strict=False), 1):
        lags = [read] * n
        news = [
            _response(segment, token, text, source_words_read=read, lags=lags[:-1])
            for token, text in _unfinished(tokens[:-1], 0, vocabulary)
        ]
        news.append(
            _response(
                segment, tokens[-1], word.written.text.strip(), source_words_read=read, lags=lags, word_complete=True
            )
        )
        for response in news:
            generated += 1
            is_last = n == len(words) and response.word_complete
            reason = segment.finish_reason if is_last else None
            yield replace(response, generation_tokens=generated, finish_reason=reason)


def _news(update: Update, vocabulary: Vocabulary, *, shown: int) -> tuple[list[Response], int]:
    """Return a pass's responses after the `shown` tokens of the current word, and the new value of `shown`."""
    if isinstance(update.output, Failed):
        raise EngineError(f"the engine failed on this generation: {update.output.error}")
    before, after = update.before.segments.first, update.segment
    if before is None or after is None:
        raise AssertionError("a session that has not failed has its segment before and after its pass")
    words = [event for event in update.events if isinstance(event, OutputTextDelta)]
    news: list[Response] = []
    for word in words:
        read, lags = word.source_words_read, _lags(after)[: word.index]
        news += [
            _response(after, token, text, source_words_read=read, lags=lags)
            for token, text in _unfinished(word.tokens[:-1], shown, vocabulary)
        ]
        token = word.tokens[-1] if word.tokens else news[-1].token  # one token may hold several words
        news.append(_response(after, token, word.word, source_words_read=read, lags=[*lags, read], word_complete=True))
        shown = 0
    if after.word_begin != before.word_begin:
        shown = 0
    # A word that more source may change is told once it is complete. Of others, hold back the newest token, as it may
    # complete its word, and white space, as it may be removed again.
    current = after.word_tokens
    if after.is_read and vocabulary.decode(current).strip():
        news += [
            _response(after, token, text, source_words_read=after.words_read, lags=_lags(after))
            for token, text in _unfinished(current[:-1], shown, vocabulary)
        ]
        shown = max(shown, len(current) - 1)
    return _close(news, after, sampled_tokens(update.output), vocabulary) if after.is_finished else news, shown


def _lags(segment: Segment) -> list[int]:
    return [word.source_words_read for word in segment.words]


def _unfinished(tokens: tuple[int, ...], shown: int, vocabulary: Vocabulary) -> list[tuple[int, str]]:
    # Each token, with the text of the word so far.
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
        prompt_tokens=len(segment.source.tokens),
        generation_tokens=0,
        generation_tps=0.0,
    )


def _close(news: list[Response], segment: Segment, sampled: Sequence[int], vocabulary: Vocabulary) -> list[Response]:
    # The last token carries the finish reason; if the pass showed no token, the one that ended the sequence does.
    if not news:
        ends = [token for token in sampled if token in vocabulary.eos_tokens]
        token = ends[0] if ends else target_tokens(segment, 0)[-1]
        news = [_response(segment, token, "", source_words_read=segment.words_read, lags=_lags(segment))]
    return [*news[:-1], replace(news[-1], finish_reason=segment.finish_reason)]
