"""Applying the tokens of a pass to their segment: confirm tokens, keep or discard drafts, decide what to read next.

The token that ends a word also begins the next one, so it is kept as a draft. Once the next source word is read, the
last target token is fed again and the draft is verified in the same pass. A policy that translates ahead keeps its
whole translation as such a draft. Drafts that were added (`worker.core.drafting`) are accepted only as far as no more
source is needed: a draft equal to the token drawn in its place is as good as that token.
"""

from msgspec.structs import replace

from worker.core.policies import Drawn
from worker.core.rows import Prompt, Row, Tokens, Vocabulary
from worker.core.segment import Cached, Decode, Segment, exhaust
from worker.core.writing import Word, closes_too_early, confirm, ends_in_space, ends_too_early, ends_word, take


def update(segment: Segment, row: Row, output: Tokens, vocabulary: Vocabulary) -> tuple[Segment, list[Word]]:
    """Return the segment after a pass, and the words that the sampled tokens finished.

    The source is not changed: words may have arrived while the pass ran.
    """
    decode, kv = segment.decode, segment.kv
    num_source = kv.num_source + len(row.source)
    decode = replace(decode, num_computed_source=max(decode.num_computed_source, num_source))
    if not row.num_samples:
        return replace(segment, decode=decode, kv=Cached(num_source, row.target_start + len(row.target))), []
    drafts = row.drafts + output.proposed
    guess = decode.draft
    if not segment.prompt.is_contiguous:
        num_fed = len(row.target) + len(output.proposed) - len(row.visible_source)
        decode = _with_visible_source(decode, segment.prompt, num_source, num_fed)
    segment = replace(
        segment,
        decode=replace(decode, draft=()),
        kv=Cached(num_source, segment.num_target),
    )
    if segment.policy.max_ahead_tokens is not None and not segment.is_read:
        segment, finished = _agree(segment, guess, drafts, output.tokens, vocabulary)
    else:
        segment, finished = _confirm(segment, drafts, output, vocabulary)
    return exhaust(_trim(segment)), finished


def _with_visible_source(decode: Decode, prompt: Prompt, num_source: int, num_fed: int) -> Decode:
    # Note that the last `num_fed` queries saw that much source.
    if decode.prompt_visible_source is None:
        decode = replace(decode, prompt_visible_source=num_source)
        num_fed -= len(prompt.target) - 1
    return replace(decode, visible_source=decode.visible_source + (num_source,) * num_fed)


def _trim(segment: Segment) -> Segment:
    # Queries that will be fed again have not seen enough source.
    num_visible = max(0, segment.kv.num_target - segment.decode.num_settled + 1)
    decode = segment.decode
    if num_visible >= len(decode.visible_source):
        return segment
    return replace(segment, decode=replace(decode, visible_source=decode.visible_source[:num_visible]))


def _confirm(
    segment: Segment, drafts: tuple[int, ...], output: Tokens, vocabulary: Vocabulary
) -> tuple[Segment, list[Word]]:
    # Every token counts as long as no source must be read before it.
    finished: list[Word] = []
    for i, token in enumerate(output.tokens):
        read, is_end = segment.needed_words(), token in vocabulary.eos_tokens
        if not is_end and not _may_write(segment, output, i, vocabulary):
            return _hold(confirm(segment, token)), finished
        if ends_too_early(segment, token, vocabulary):
            return _hold(segment), finished
        begin = segment.word_begin
        segment, new_words = take(segment, token, vocabulary)
        finished += new_words
        if segment.is_finished or segment.is_full:
            break
        # The first token of a word is drawn and judged as such, once the source that the word may see has been read.
        is_next_word = segment.word_begin != begin
        is_judged = bool(output.probabilities) and not segment.is_read
        is_drawn_again = is_next_word and (is_judged or ends_in_space(segment, vocabulary))
        if segment.needed_words() != read or is_drawn_again:
            return _feed_again(segment, is_guess=not is_end), finished
        if is_next_word and segment.word_tokens and not _is_ready(segment, output, i, begins_word=True):
            return _hold(segment), finished
        # A draft counts only within a word: behind a cut word, the next token must be drawn as a word's first.
        if i >= len(drafts) or drafts[i] != token or not segment.word_tokens:
            break
        segment = replace(segment, kv=replace(segment.kv, num_target=segment.num_target))
    return segment, finished


def _may_write(segment: Segment, output: Tokens, i: int, vocabulary: Vocabulary) -> bool:
    # A token that only ends a word may always be written.
    begins_word = not segment.word_tokens
    is_ready = _is_ready(segment, output, i, begins_word=begins_word)
    return is_ready or ends_word(segment, output.tokens[i], vocabulary)


def _is_ready(segment: Segment, output: Tokens, i: int, *, begins_word: bool) -> bool:
    read = segment.needed_words()
    if read is None or segment.is_read:
        return True
    drawn = Drawn(
        num_read=read,
        num_words=len(segment.words),
        begins_word=begins_word,
        probability=output.probabilities[i] if output.probabilities else None,
        aligned_word=segment.source.bounds.bisect_right(output.aligned[i]) if output.aligned else None,
    )
    return segment.policy.may_write(drawn)


def _hold(segment: Segment) -> Segment:
    # Read more source before the word is drawn again: the model may become sure of it, or of another.
    hold = (segment.needed_words() or 0) + 1
    return _feed_again(replace(segment, decode=replace(segment.decode, hold=hold)), is_guess=True)


def _feed_again(segment: Segment, *, is_guess: bool) -> Segment:
    # Feed the last whole word's last token once more; the tokens behind it become a draft.
    decode, num_kept = segment.decode, segment.word_begin
    draft = segment.word_tokens if is_guess and segment.session.speculation.enabled else ()
    return replace(
        segment,
        decode=replace(decode, tokens=decode.tokens[: decode.num_blank], draft=draft),
        kv=replace(segment.kv, num_target=min(segment.kv.num_target, num_kept - 1)),
    )


def _agree(
    segment: Segment, guess: tuple[int, ...], drafts: tuple[int, ...], tokens: tuple[int, ...], vocabulary: Vocabulary
) -> tuple[Segment, list[Word]]:
    # The draft is the translation of less source; only the part that the policy confirms counts.
    read = segment.needed_words()
    finished: list[Word] = []
    num_confirmed = segment.policy.num_confirmed(guess, tokens)
    for i, token in enumerate(guess[:num_confirmed]):
        if closes_too_early(segment, token, vocabulary):
            num_confirmed = i
            break
        segment, new_words = take(segment, token, vocabulary)
        finished += new_words
        if segment.needed_words() != read:  # a loop or a bound raised the need
            return _feed_again(segment, is_guess=False), finished
        if segment.is_full or not segment.word_tokens:  # the word was cut: the next token is drawn as a word's first
            return replace(segment, kv=replace(segment.kv, num_target=segment.num_target - 1)), finished
    for i, token in enumerate(tokens[num_confirmed:], num_confirmed):
        segment = _write_ahead(segment, token, is_end=token in vocabulary.eos_tokens)
        if segment.needed_words() != read or i >= len(drafts) or drafts[i] != token:
            break
    return segment, finished


def _write_ahead(segment: Segment, token: int, *, is_end: bool) -> Segment:
    # One more tentative token; once there are enough, they are the draft for the next source word.
    decode, num_target = segment.decode, segment.num_target
    tentative = decode.tentative if is_end else (*decode.tentative, token)
    length = num_target + len(tentative)
    is_enough = len(tentative) >= (segment.policy.max_ahead_tokens or 0) or length >= segment.max_target_tokens
    if is_end or is_enough:
        hold = (segment.needed_words() or 0) + 1
        decode, length = replace(decode, draft=tentative, tentative=(), hold=hold), num_target
    else:
        decode = replace(decode, tentative=tentative)
    return replace(segment, decode=decode, kv=replace(segment.kv, num_target=length - 1))
