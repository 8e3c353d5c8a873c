"""What the tokens of a pass do to their segment: which are confirmed, which stay guesses, and what must be read next.

The boundary token that ends one word is a free draft of the next word's first: after the read, one pass feeds the last
target token again, which now sees the new source word, and verifies the draft. Under local agreement the whole
translation of the source so far is such a draft, and what survives the next source word is confirmed. Drafts that were
added to those (`worker.core.drafting`) are verified as far as no more source need be read: a draft that is the token
which was drawn there is as good as that token.
"""

from bisect import bisect_right

from msgspec.structs import replace

from protocol import LocalAgreement
from worker.core import policy
from worker.core.rows import Row, Tokens, Vocabulary
from worker.core.segment import Segment, exhaust
from worker.core.writing import Word, ends_word, take


def update(segment: Segment, row: Row, sampled: Tokens, vocabulary: Vocabulary) -> tuple[Segment, tuple[Word, ...]]:
    """The segment after a pass, and the words that the sampled tokens finished.

    Only progress fields change, so source that arrived while the pass ran is kept.
    """
    num_cached_source = segment.num_cached_source + len(row.source)
    segment = replace(
        segment,
        num_cached_source=num_cached_source,
        num_computed_source=max(segment.num_computed_source, num_cached_source),
    )
    if not row.num_samples:
        return replace(segment, num_cached_target=segment.num_cached_target + len(row.target)), ()
    drafts = row.drafts + sampled.proposed
    num_fed = len(row.target) + len(sampled.proposed)
    visible_source = segment.visible_source + (num_cached_source,) * (num_fed - len(row.visible_source))
    match segment.session.policy:
        case LocalAgreement(max_ahead_tokens=ahead) if not segment.is_read:
            segment, finished = _agree(segment, drafts, sampled.tokens, vocabulary, ahead=ahead)
        case _:
            segment, finished = _confirm(replace(segment, draft=()), drafts, sampled, vocabulary)
    return exhaust(replace(segment, visible_source=visible_source[: segment.num_cached_target])), tuple(finished)


def _confirm(
    segment: Segment, draft: tuple[int, ...], sampled: Tokens, vocabulary: Vocabulary
) -> tuple[Segment, list[Word]]:
    # Every token counts, as long as no source must be read for it.
    segment = replace(segment, num_cached_target=len(segment.target))
    finished: list[Word] = []
    for i, token in enumerate(sampled.tokens):
        read, is_end = segment.needed_segments(), token in vocabulary.eos_tokens
        if not is_end and _is_doubted(segment, sampled, i, vocabulary):
            held = replace(segment, target=(*segment.target, token), hold=(read or 0) + 1)
            return _feed_again(held, is_guess=True), finished
        segment, word = take(segment, token, vocabulary)
        finished += [word] if word is not None else []
        if segment.is_finished or segment.is_full:
            break
        # What begins a word is drawn, and doubted, as such: once the source that the word may see has been read.
        is_doubtable = word is not None and bool(sampled.probabilities) and not segment.is_read
        if segment.needed_segments() != read or is_doubtable:
            return _feed_again(segment, is_guess=not is_end), finished
        if segment.word_begin < len(segment.target) and _is_unsettled(segment, sampled, i):
            return _feed_again(replace(segment, hold=(read or 0) + 1), is_guess=True), finished
        # A draft counts only within a word: behind one that was cut, the next token must be drawn as a word's first.
        if i >= len(draft) or draft[i] != token or segment.word_begin == len(segment.target):
            break
        segment = replace(segment, num_cached_target=len(segment.target))
    return segment, finished


def _feed_again(segment: Segment, *, is_guess: bool) -> Segment:
    # The last whole word's last token is fed once more; what was written behind it is a guess.
    kept, guess = segment.target[: segment.word_begin], segment.target[segment.word_begin :]
    return replace(
        segment,
        target=kept,
        draft=guess if is_guess and segment.session.speculation.enabled else (),
        num_cached_target=min(segment.num_cached_target, len(kept) - 1),
    )


def _is_doubted(segment: Segment, sampled: Tokens, i: int, vocabulary: Vocabulary) -> bool:
    # The model is not sure of a word's token, and more source may make it sure: of the word, or of another.
    read = segment.needed_segments()
    is_sure = not _is_unsettled(segment, sampled, i)
    if sampled.probabilities and read is not None and not segment.is_read:
        lag, begins_word = read - len(segment.lags), segment.word_begin == len(segment.target)
        is_sure = policy.is_sure(segment.session, sampled.probabilities[i], lag, begins_word=begins_word)
    return not (is_sure or ends_word(segment, sampled.tokens[i], vocabulary))


def _is_unsettled(segment: Segment, sampled: Tokens, i: int) -> bool:
    # The token comes from the newest source words, whose sense what follows them may still change.
    read = segment.needed_segments()
    if not sampled.aligned or read is None or segment.is_read:
        return False
    return not policy.is_settled(segment.session, bisect_right(segment.bounds, sampled.aligned[i]), read)


def _agree(
    segment: Segment, drafts: tuple[int, ...], tokens: tuple[int, ...], vocabulary: Vocabulary, *, ahead: int
) -> tuple[Segment, list[Word]]:
    # The draft is the translation of one source word less; what the model would write again is agreed on.
    guess, read = segment.draft, segment.needed_segments()
    segment = replace(segment, draft=())
    finished: list[Word] = []
    num_agreed = next((i for i, token in enumerate(guess) if token != tokens[i]), len(guess))
    for token in guess[:num_agreed]:
        segment, word = take(segment, token, vocabulary)
        finished += [word] if word is not None else []
        if segment.is_full or segment.word_begin == len(
            segment.target
        ):  # cut: the next token is drawn as a word's first
            return replace(segment, num_cached_target=len(segment.target) - 1), finished
    for i, token in enumerate(tokens[num_agreed:], num_agreed):
        segment = _write_ahead(segment, token, ahead, is_end=token in vocabulary.eos_tokens)
        if segment.needed_segments() != read or i >= len(drafts) or drafts[i] != token:
            break
    return segment, finished


def _write_ahead(segment: Segment, token: int, ahead: int, *, is_end: bool) -> Segment:
    # One more token of what may still change; once there are enough, they are the draft for the next source word.
    tentative = segment.tentative if is_end else (*segment.tentative, token)
    length = len(segment.target) + len(tentative)
    if is_end or len(tentative) >= ahead or length >= segment.prompt.max_target_tokens:
        read = segment.needed_segments() or 0
        return replace(segment, draft=tentative, tentative=(), hold=read + 1, num_cached_target=len(segment.target) - 1)
    return replace(segment, tentative=tentative, num_cached_target=length - 1)
