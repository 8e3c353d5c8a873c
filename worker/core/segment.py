"""One segment (utterance): its source, the target written so far, and the row that it wants from the next pass.

    source  the log of the source words      decode  the part in a checkpoint: the word being written, and counters
    words   the written target words         kv      the contents of the lane, which can be lost at any time

The target is `[prompt, words, tokens behind them]`. A target token's query is the position that it is fed at; the token
behind it is drawn from that query. `worker.core.settling` applies the sampled tokens.
"""

import msgspec
from msgspec.structs import replace

from protocol import Session
from worker.core import introductions, runaway, words
from worker.core import source as sources
from worker.core.append_log import Log
from worker.core.policies import Policy, policy_of
from worker.core.rows import Lane, Prompt, Row, SampleSpec, Vocabulary
from worker.core.source import Source


class WrittenWord(msgspec.Struct, frozen=True, array_like=True):
    """A finished target word."""

    begin: int  # index into the target, right behind the word before
    blank: tuple[int, ...]  # white space up to a limit, from there to the word
    tokens: tuple[int, ...]
    # For each of these tokens, the source tokens seen by the query that it was drawn from; empty if contiguous.
    visible_source: tuple[int, ...]
    source_words_read: int
    text: str

    @property
    def end(self) -> int:
        """Index into the target behind the word."""
        return self.begin + len(self.blank) + len(self.tokens)


class Decode(msgspec.Struct, frozen=True, array_like=True):
    """Decoding state of a segment besides its finished words; stored in the checkpoint."""

    num_settled: int  # target tokens up to the last word's end: they never change
    tokens: tuple[int, ...] = ()  # confirmed tokens behind these
    num_blank: int = 0  # of these, leading white space up to a limit
    draft: tuple[int, ...] = ()  # guessed continuation, to be verified
    tentative: tuple[int, ...] = ()  # continuation that later source may still change, in the lane but for its last
    hold: int = 0  # source words to read before trying again, if the model was not ready to write
    num_computed_source: int = 0  # source tokens that were read, be it into a lane that is gone
    # Source tokens that the queries saw, or should see in a rebuilt lane, from the last word's last token on. In a
    # contiguous layout, nothing of that is known or needed: all queries see the same source.
    visible_source: tuple[int, ...] = ()
    prompt_visible_source: int | None = None  # and those of the prompt before its last token; None: it was not fed yet


class Cached(msgspec.Struct, frozen=True):
    """Counts of the tokens in the lane."""

    num_source: int = 0  # tokens
    num_target: int = 0  # tokens that saw the source they should


class Segment(msgspec.Struct, frozen=True):
    """The state of a segment."""

    index: int
    lane: Lane
    session: Session
    policy: Policy
    source: Source
    decode: Decode
    words: Log[WrittenWord] = Log()
    kv: Cached = Cached()
    finish_reason: str | None = None

    @property
    def prompt(self) -> Prompt:
        """The tokens around the words."""
        return self.source.prompt

    @property
    def word_begin(self) -> int:
        """Index into the target of the word that is being written."""
        return self.decode.num_settled + self.decode.num_blank

    @property
    def num_target(self) -> int:
        """Number of confirmed target tokens, the prompt's included."""
        return self.decode.num_settled + len(self.decode.tokens)

    @property
    def word_tokens(self) -> tuple[int, ...]:
        """The confirmed tokens of the word that is being written."""
        return self.decode.tokens[self.decode.num_blank :]

    @property
    def num_visible(self) -> int:
        """Number of queries for which it is known how much source they saw."""
        if self.decode.prompt_visible_source is None:
            return 0
        return self.decode.num_settled - 1 + len(self.decode.visible_source)

    @property
    def words_read(self) -> int:
        """Number of source words that are read before the next target word; the end does not count."""
        need = self.needed_words()
        return self.source.num_words if need is None else min(need, self.source.num_words)

    @property
    def is_finished(self) -> bool:
        """Whether the translation is complete, and the source too."""
        return self.finish_reason is not None

    @property
    def max_target_tokens(self) -> int:
        """Number of target tokens that there is room for behind the source so far, the prompt's included."""
        return self.prompt.room(len(self.source.tokens))

    @property
    def is_full(self) -> bool:
        """Whether a limit forbids further words; that on a translation's length counts once the source has ended."""
        limit = self.session.limits.max_new_words
        is_bound = self.source.ended and self.min_source_words > self.source.num_words
        is_limit = limit is not None and len(self.words) >= limit
        return is_bound or is_limit or self.num_target >= self.max_target_tokens

    @property
    def min_source_words(self) -> int:
        """Number of source words that the next target word needs by the bound on a translation's length."""
        if not self.prompt.is_translation:
            return 0
        ends = (self.words[0].text[0], self.words[-1].text[-1]) if self.words else ()
        return runaway.min_source_words(len(self.words), is_spaceless=any(map(words.is_spaceless, ends)))

    @property
    def is_read(self) -> bool:
        """Whether the next target word is drawn from the whole source, so that nothing more can change it."""
        return self.source.ended and self.needed_words() == self.source.num_readable_words

    @property
    def waiting_ms(self) -> int:
        """Arrival time of the first unread source word (or the end); if all are read, of the newest."""
        return self.source.waiting_ms(self.decode.num_computed_source)

    @property
    def num_unread_words(self) -> int:
        """Number of source words that have arrived and are unread."""
        return max(0, self.source.num_words - self.source.num_words_in(self.decode.num_computed_source))

    def needed_words(self) -> int | None:
        """Return how many source words to read before the next target word is written; None: not known yet.

        The end counts as a word. This is what the policy requires, or more if `hold` or the bound on a translation's
        length (`min_source_words`) asks for more, and never more than there are once the source has ended.
        """
        need = self.policy.num_required_words(self.source, len(self.words))
        if need is not None:
            need = max(need, self.decode.hold, self.min_source_words)
        if not self.source.ended:
            return need
        total = self.source.num_readable_words
        return total if need is None else min(need, total)


def begin(index: int, lane: Lane, session: Session, vocabulary: Vocabulary) -> Segment:
    """Return a segment without words. Raises Refused if the model has no prompt for the session's options."""
    return framed(index, lane, session, vocabulary.prompt(session))


def framed(index: int, lane: Lane, session: Session, prompt: Prompt) -> Segment:
    """Return a segment without words, in the given prompt."""
    prompt = prompt.in_layout()
    source = sources.begin(prompt, is_copied=prompt.is_translation)
    return Segment(index, lane, session, policy_of(session), source, Decode(len(prompt.target)))


def append(segment: Segment, word: str, tokens: tuple[int, ...], now_ms: int) -> Segment:
    """Return the segment with one more source word."""
    return replace(segment, source=sources.append(segment.source, word, tokens, now_ms))


def end(segment: Segment, now_ms: int) -> Segment:
    """Return the segment with its end marker, which is read like one more source word."""
    ended = replace(segment, source=sources.end(segment.source, now_ms))
    return exhaust(ended) if ended.source.num_words else replace(ended, finish_reason="empty")


def exhaust(segment: Segment) -> Segment:
    """Return the segment, finished if a limit forbids more words and the source has ended: until then, more may have
    to be read.
    """
    if segment.source.ended and segment.is_full and not (segment.is_finished or segment.source.is_copied):
        return replace(segment, finish_reason="length")
    return segment


def row(segment: Segment, max_source_tokens: int, min_source_tokens: int = 1) -> Row | None:
    """Return the row that the segment wants from the next pass: at most `max_source_tokens` of source, then target.
    None: nothing yet.

    Source alone is read once it has `min_source_tokens`: less costs nothing extra when read with the next write.
    """
    source, kv = segment.source, segment.kv
    if segment.is_finished or segment.is_full or source.is_copied or not source.words:
        return None
    need, available = segment.needed_words(), source.num_readable_words
    stop = source.bounds[available if need is None else min(need, available)]
    tokens = source.tokens[kv.num_source : min(stop, kv.num_source + max_source_tokens)]
    is_read = need is not None and need <= available and kv.num_source + len(tokens) >= stop
    # In a stock model's layout, source moves the whole target, and all of it sees that source.
    start = 0 if tokens and segment.prompt.is_contiguous else kv.num_target
    target, visible_source = _target(segment, start, max_source_tokens - len(tokens)) if is_read else ((), ())
    if not target and len(tokens) < max(1, min(min_source_tokens, max_source_tokens)):
        return None
    return Row(
        lane=segment.lane,
        source=tokens,
        target=target,
        target_start=start,
        num_drafts=len(segment.decode.draft) if len(target) > len(visible_source) else 0,
        sampling=_sampling(segment),
        is_contiguous=segment.prompt.is_contiguous,
        visible_source=visible_source,
        source_start=kv.num_source,
        prefix=0 if kv.num_source else len(segment.prompt.source),
    )


def forget_cache(segment: Segment) -> Segment:
    """Return the segment without its lane: its next rows feed the lane's tokens again."""
    return replace(segment, kv=Cached())


def rebuilt_tokens(segment: Segment, row: Row) -> int:
    """Return how many of the row's tokens an earlier lane of the segment has held."""
    num_source = segment.decode.num_computed_source - segment.kv.num_source
    return len(row.visible_source) + max(0, min(len(row.source), num_source))


def target_tokens(segment: Segment, start: int) -> tuple[int, ...]:
    """Return the target's tokens from index `start` on, tentative ones included."""
    decode = segment.decode
    behind = decode.tokens + decode.tentative
    if start >= decode.num_settled:
        return behind[start - decode.num_settled :]
    settled = [token for word in _words_from(segment, start) for token in (*word.blank, *word.tokens)]
    first = decode.num_settled - len(settled)
    return (*segment.prompt.target[start:], *settled[max(0, start - first) :], *behind)


def _words_from(segment: Segment, index: int) -> tuple[WrittenWord, ...]:
    # The words from the one that holds this index of the target on.
    words = segment.words
    if words and words[-1].begin <= index:  # the usual case
        return words[-1:]
    return words[max(0, words.bisect_right(index, key=lambda word: word.begin) - 1) :]


def _visible_source(segment: Segment, start: int) -> tuple[int, ...]:
    # Source tokens that the queries from this index on saw, as far as is known.
    decode = segment.decode
    if start >= segment.num_visible or decode.prompt_visible_source is None:
        return ()
    # A word's first token is drawn by the query before it.
    visible = [seen for word in _words_from(segment, start + 1) for seen in word.visible_source]
    visible += decode.visible_source
    first = segment.num_visible - len(visible)
    num_prompt = max(0, len(segment.prompt.target) - 1 - start)
    return (*(decode.prompt_visible_source,) * num_prompt, *visible[max(0, start - first) :])


def _target(segment: Segment, start: int, room: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    # The target tokens to feed from `start` on, and the source that the first of them saw in a lost lane; if those are
    # too many for the room that is left, they come in chunks.
    tokens, visible_source = target_tokens(segment, start), _visible_source(segment, start)
    if len(visible_source) > room:
        return tokens[:room], visible_source[:room]
    return tokens + segment.decode.draft, visible_source


def _sampling(segment: Segment) -> SampleSpec:
    sampling, policy, num_prompt = segment.session.sampling, segment.policy, len(segment.prompt.target)
    position = segment.num_target + len(segment.decode.tentative)
    context = sampling.repetition_context_size if sampling.repetition_penalty is not None else 0
    is_start, is_answer, source = segment.word_begin == position, segment.prompt.is_answer, segment.source.words
    return SampleSpec(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.seed + segment.index,
        position=position,
        history=target_tokens(segment, max(num_prompt, position - context)) if context else (),
        context_tokens=context,
        word_start=is_start and bool(segment.words) and not words.is_spaceless(segment.words[-1].text[-1]),
        one_line=is_answer,
        opening=is_answer and is_start and not segment.words and source[0][0].isalnum(),
        no_introduction=is_answer
        and not introductions.may_introduce(segment.session.target_language, source[: segment.needed_words()]),
        with_probabilities=policy.with_probabilities,
        aligned_from=segment.source.bounds[0] if policy.with_alignment and not segment.is_read else None,
    )
