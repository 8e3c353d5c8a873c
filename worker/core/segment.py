"""One segment (utterance): its source words, what has been read of them, and the translation so far.

`row` says what the segment wants from the next forward pass; `worker.core.settling` takes the tokens that came back.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice

import msgspec
from msgspec.structs import replace

from protocol import Session
from worker.core import policy, words
from worker.core.rows import Lane, Prompt, Row, SampleSpec, Vocabulary


class Segment(msgspec.Struct, frozen=True):
    """A segment's log and progress. `source` = prompt, words, end; `bounds[n]` tokens are the prompt and n segments."""

    index: int
    lane: Lane
    session: Session
    prompt: Prompt
    source: tuple[int, ...]
    bounds: tuple[int, ...]
    target: tuple[int, ...]  # prompt and confirmed tokens
    arrivals_ms: tuple[int, ...] = ()  # when each segment (words, then the end) arrived
    last_word: str = ""
    ended: bool = False
    num_cached_source: int = 0  # source tokens in the lane
    num_cached_target: int = 0  # target tokens in the lane that saw the source they should
    visible_source: tuple[
        int, ...
    ] = ()  # source tokens that each of those saw, or should see in a lane that is rebuilt
    num_computed_source: int = 0  # source tokens that were read, be it in a lane that is gone
    draft: tuple[int, ...] = ()  # guessed continuation of `target`, to be verified
    tentative: tuple[int, ...] = ()  # continuation that later source may still change, in the lane but for its last
    word_begin: int = 0  # index into `target` of the current word's first token
    previous_begin: int = 0  # and of the word before it
    hold: int = 0  # segments to read before trying again, where the model was not ready to write
    lags: tuple[int, ...] = ()  # source words read when each target word was written
    text: str = ""
    finish_reason: str | None = None

    @property
    def num_words(self) -> int:
        """Source words that have arrived."""
        return len(self.bounds) - 1 - self.ended

    @property
    def words_read(self) -> int:
        """Source segments needed for the target word that is being written, at most the number of words."""
        need = self.needed_segments()
        return self.num_words if need is None else min(need, self.num_words)

    @property
    def is_finished(self) -> bool:
        """The translation is complete, and the source too."""
        return self.finish_reason is not None

    @property
    def is_full(self) -> bool:
        """A limit forbids further words."""
        limit = self.session.limits.max_new_words
        return (limit is not None and len(self.lags) >= limit) or len(self.target) >= self.prompt.max_target_tokens

    @property
    def is_read(self) -> bool:
        """All of the source is there and may be used for the next target word: nothing more can change it."""
        return self.ended and self.needed_segments() == len(self.bounds) - 1

    @property
    def waiting_ms(self) -> int:
        """When the first source segment arrived that has not been read yet; if all are, the newest."""
        unread = max(1, bisect_right(self.bounds, self.num_computed_source))
        return self.arrivals_ms[min(unread, len(self.arrivals_ms)) - 1] if self.arrivals_ms else 0

    def needed_segments(self) -> int | None:
        """Source segments to read before the next target word may be written; None: not known before the end."""
        need = policy.needed(self.session, len(self.lags))
        if need is not None:
            need = max(need, self.hold)
        if not self.ended:
            return need
        total = len(self.bounds) - 1
        return total if need is None else min(need, total)


def begin(index: int, lane: Lane, session: Session, vocabulary: Vocabulary) -> Segment:
    """A segment without words. Raises Refused where the model has no prompt for the session's options."""
    return framed(index, lane, session, vocabulary.prompt(session))


def framed(index: int, lane: Lane, session: Session, prompt: Prompt) -> Segment:
    """A segment without words, in a prompt of the caller's own."""
    return Segment(
        index=index,
        lane=lane,
        session=session,
        prompt=prompt,
        source=prompt.source,
        bounds=(len(prompt.source),),
        target=prompt.target,
        word_begin=len(prompt.target),
        previous_begin=len(prompt.target),
    )


def append(segment: Segment, word: str, tokens: tuple[int, ...], now_ms: int) -> Segment:
    """The segment with one more source word."""
    source = segment.source + tokens
    return replace(
        segment,
        source=source,
        bounds=(*segment.bounds, len(source)),
        arrivals_ms=(*segment.arrivals_ms, now_ms),
        last_word=word,
    )


def end(segment: Segment, now_ms: int) -> Segment:
    """The segment with its end marker, which is read as one more segment after the last word."""
    ended = replace(append(segment, segment.last_word, segment.prompt.end, now_ms), ended=True)
    if not ended.num_words:
        return replace(ended, finish_reason="empty")
    return exhaust(ended)


def exhaust(segment: Segment) -> Segment:
    """The segment finished where a limit forbids more words and the source has ended: until then there may be more to
    read.
    """
    if segment.ended and segment.is_full and not segment.is_finished:
        return replace(segment, finish_reason="length")
    return segment


def row(segment: Segment, max_source_tokens: int, min_source_tokens: int = 1) -> Row | None:
    """What the segment wants from the next pass: at most `max_source_tokens` of source, then target; None: nothing yet.

    Source alone is read once `min_source_tokens` have gathered: up to then it costs no more to read it with the write.
    """
    if segment.is_finished or segment.is_full or segment.num_words == 0:
        return None
    need = segment.needed_segments()
    available = len(segment.bounds) - 1
    stop = segment.bounds[available if need is None else min(need, available)]
    source = segment.source[segment.num_cached_source : min(stop, segment.num_cached_source + max_source_tokens)]
    is_read = need is not None and need <= available and segment.num_cached_source + len(source) >= stop
    target, visible_source = _target(segment, max_source_tokens - len(source)) if is_read else ((), ())
    if not target and len(source) < max(1, min(min_source_tokens, max_source_tokens)):
        return None
    return Row(
        lane=segment.lane,
        source=source,
        target=target,
        target_start=segment.num_cached_target,
        num_drafts=len(segment.draft) if len(target) > len(visible_source) else 0,
        sampling=_draw(segment),
        plain=segment.prompt.plain,
        visible_source=visible_source,
        source_start=segment.num_cached_source,
        prefix=0 if segment.num_cached_source else len(segment.prompt.source),
    )


def forget_cache(segment: Segment) -> Segment:
    """The segment whose lane is gone: its next rows feed again what the lane held."""
    return replace(segment, num_cached_source=0, num_cached_target=0)


def rebuilt_tokens(segment: Segment, row: Row) -> int:
    """How many of the row's tokens the segment's lane has held before."""
    return len(row.visible_source) + max(
        0, min(len(row.source), segment.num_computed_source - segment.num_cached_source)
    )


def _target(segment: Segment, room: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    # The target tokens to feed, and what the first of them saw in a lane that is gone; if those are too many for the
    # room that is left, they come in chunks.
    tokens, visible_source = segment.target + segment.tentative, segment.visible_source[segment.num_cached_target :]
    if len(visible_source) > room:
        return tokens[segment.num_cached_target :][:room], visible_source[:room]
    return tokens[segment.num_cached_target :] + segment.draft, visible_source


def _draw(segment: Segment) -> SampleSpec:
    sampling = segment.session.sampling
    target = segment.target + segment.tentative
    written = target[len(segment.prompt.target) :]
    context = sampling.repetition_context_size if sampling.repetition_penalty is not None else 0
    is_start = segment.word_begin == len(target) and bool(segment.lags)
    return SampleSpec(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.seed + segment.index,
        position=len(target),
        history=written[-context:] if context else (),
        context_tokens=context,
        word_start=is_start and not words.is_spaceless(segment.text[-1:] or " "),
        with_probabilities=policy.asks_probabilities(segment.session),
        aligned_from=segment.bounds[0] if policy.asks_alignment(segment.session) and not segment.is_read else None,
    )


def average_lagging(lags: Sequence[int], source_words: int) -> float | None:
    """Average lagging in words (Ma et al. 2019, eq. 8), with the hypothesis's own length; None without words.

    >>> average_lagging((3, 4, 5, 5), source_words=5)
    2.75
    """
    if not lags or not source_words:
        return None
    rate = len(lags) / source_words
    # Words after the first that saw the whole source do not count: their delay is not the policy's doing.
    cut = next((t + 1 for t, read in enumerate(lags) if read >= source_words), len(lags))
    return sum(read - t / rate for t, read in enumerate(islice(lags, cut))) / cut
