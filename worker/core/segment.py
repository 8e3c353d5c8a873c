"""One segment (utterance): its source words, what has been read of them, and the translation so far.

`row` says what the segment wants from the next forward pass; `settle` takes the tokens that came back. The boundary
token that ends one word is a free draft of the next word's first: after the read, one pass feeds the last target
token again, which now sees the new source word, and verifies the draft.
"""

from collections.abc import Sequence
from itertools import islice

import msgspec
from msgspec.structs import replace

from protocol import Session
from worker.core import policy, words
from worker.core.ports import Draw, Lane, Prompt, Row, Vocabulary


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
    fed_source: int = 0  # source tokens in the lane
    fed_target: int = 0  # target tokens in the lane that saw the source they should
    draft: tuple[int, ...] = ()  # guessed continuation of `target`, to be verified
    word_begin: int = 0  # index into `target` of the current word's first token
    previous_begin: int = 0  # and of the word before it
    hold: int = 0  # segments to read before trying again, where the model ended before its source had
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

    def needed_segments(self) -> int | None:
        """Source segments to read before the next target word may be written; None: not known before the end."""
        need = policy.needed(self.session, len(self.lags))
        if need is not None:
            need = max(need, self.hold)
        if not self.ended:
            return need
        total = len(self.bounds) - 1
        return total if need is None else min(need, total)


class Word(msgspec.Struct, frozen=True):
    """A finished target word: bare, and as `text` that concatenates to the translation."""

    index: int
    word: str
    text: str
    tokens: tuple[int, ...]
    source_words_read: int
    needed_ms: int  # when the newest source segment that it waited for arrived


def begin(index: int, lane: Lane, session: Session, vocabulary: Vocabulary) -> Segment:
    """A segment without words. Raises Refused where the model has no prompt for the session's options."""
    prompt = vocabulary.prompt(session)
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
    return _exhaust(ended)


def _exhaust(segment: Segment) -> Segment:
    # A limit ends the translation only once the source has ended: until then there may be more to read.
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
    source = segment.source[segment.fed_source : min(stop, segment.fed_source + max_source_tokens)]
    is_read = need is not None and need <= available and segment.fed_source + len(source) >= stop
    target = segment.target[segment.fed_target :] + segment.draft if is_read else ()
    if not target and len(source) < max(1, min(min_source_tokens, max_source_tokens)):
        return None
    return Row(
        lane=segment.lane,
        source=source,
        target=target,
        target_start=segment.fed_target,
        num_drafts=len(segment.draft) if target else 0,
        draw=_draw(segment),
        plain=segment.prompt.plain,
    )


def _draw(segment: Segment) -> Draw:
    sampling = segment.session.sampling
    written = segment.target[len(segment.prompt.target) :]
    context = sampling.repetition_context_size if sampling.repetition_penalty is not None else 0
    is_start = segment.word_begin == len(segment.target) and bool(segment.lags)
    return Draw(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.seed + segment.index,
        position=len(segment.target),
        history=written[-context:] if context else (),
        context_tokens=context,
        word_start=is_start and not words.is_spaceless(segment.text[-1:] or " "),
    )


def settle(
    segment: Segment, row: Row, sampled: Sequence[int], vocabulary: Vocabulary
) -> tuple[Segment, tuple[Word, ...]]:
    """The segment after a pass, and the words that the sampled tokens finished.

    Only progress fields change, so source that arrived while the pass ran is kept.
    """
    segment = replace(segment, fed_source=segment.fed_source + len(row.source))
    if not row.target:
        return segment, ()
    draft = row.target[len(row.target) - row.num_drafts :]
    segment = replace(segment, fed_target=len(segment.target), draft=())
    finished: list[Word] = []
    for i, token in enumerate(sampled):
        read_before = segment.needed_segments()
        segment, word = _take(segment, token, vocabulary)
        if word is not None:
            finished.append(word)
        if segment.is_finished or segment.is_full:
            break
        if segment.needed_segments() != read_before:  # the next token must see more source: feed the last one again
            is_guess = segment.session.speculation.enabled and token not in vocabulary.eos_tokens
            guess = segment.target[segment.word_begin :] if is_guess else ()
            kept = segment.target[: segment.word_begin]
            segment = replace(segment, target=kept, draft=guess, fed_target=min(segment.fed_target, len(kept) - 1))
            break
        # A draft counts only within a word: behind one that was cut, the next token must be drawn as a word's first.
        if i >= len(draft) or draft[i] != token or segment.word_begin == len(segment.target):
            break
        segment = replace(segment, fed_target=len(segment.target))
    return _exhaust(segment), tuple(finished)


def _take(segment: Segment, token: int, vocabulary: Vocabulary) -> tuple[Segment, Word | None]:
    # One confirmed token. A word is finished by the token that begins the next one, by the end, or by its length.
    current = segment.target[segment.word_begin :]
    before = vocabulary.decode(current) if current else ""
    is_eos = token in vocabulary.eos_tokens
    read = segment.needed_segments() or 0
    word = None
    if before.strip() and (is_eos or words.starts_word(before, _piece(current, before, token, vocabulary))):
        segment, word = _finish_word(segment, before, vocabulary)
    if is_eos:
        return _end_of_sequence(segment, read), word
    segment = replace(segment, target=(*segment.target, token))
    is_long = len(segment.target) - segment.word_begin >= segment.session.limits.max_tokens_per_word
    if word is None and (is_long or len(segment.target) >= segment.prompt.max_target_tokens):
        segment, word = _finish_word(segment, vocabulary.decode(segment.target[segment.word_begin :]), vocabulary)
    return segment, word


def _piece(current: tuple[int, ...], before: str, token: int, vocabulary: Vocabulary) -> str:
    after = vocabulary.decode((*current, token))
    return after[len(before) :] if after.startswith(before) else ""


def _end_of_sequence(segment: Segment, read: int) -> Segment:
    # The model ended after `read` segments: believed only when those are all. The word that it finished may have raised
    # the need; what is still to be read may then bring more words.
    if segment.ended and read == len(segment.bounds) - 1:
        return replace(segment, finish_reason="stop")
    if (segment.needed_segments() or 0) > read:
        return segment
    return replace(segment, hold=read + 1)


def _finish_word(segment: Segment, decoded: str, vocabulary: Vocabulary) -> tuple[Segment, Word | None]:
    tokens = segment.target[segment.word_begin :]
    written = replace(segment, word_begin=len(segment.target))
    bare = decoded.strip()
    if not bare:  # nothing but white space, up to the limit: no word to publish
        return written, None
    need = segment.needed_segments() or 1
    word = Word(
        index=len(segment.lags),
        word=bare,
        text=_lead(segment, bare, vocabulary) + bare,
        tokens=tokens,
        source_words_read=segment.words_read,
        needed_ms=segment.arrivals_ms[min(need, len(segment.arrivals_ms)) - 1],
    )
    lags = (*segment.lags, word.source_words_read)
    return replace(written, lags=lags, text=segment.text + word.text, previous_begin=segment.word_begin), word


def _lead(segment: Segment, bare: str, vocabulary: Vocabulary) -> str:
    # What the tokenizer puts between the last word and this one; tokenizers show it only within one decode.
    if not segment.text:
        return ""
    last = vocabulary.decode(segment.target[segment.previous_begin : segment.word_begin])
    both = vocabulary.decode(segment.target[segment.previous_begin :])
    if not both.startswith(last):
        return words.separator(segment.text[-1:], bare)
    piece = both[len(last) :]
    return piece[: len(piece) - len(piece.lstrip())]


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
