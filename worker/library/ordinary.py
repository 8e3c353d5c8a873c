"""Ordinary prompts: read all of it, then write. In the engine they are rows of the same batch as streaming ones."""

from msgspec.structs import replace

from protocol import Limits, Sampling, Session, Speculation
from worker.core import segment as segments
from worker.core import source as sources
from worker.core.languages import split_instruction
from worker.core.rows import Prompt, Refused
from worker.core.segment import Segment
from worker.core.words import source_words
from worker.engine.text.prompts import UnknownPrompts
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import lane_numbers
from worker.library.vocabulary import unsupported


def ordinary_prompt(
    vocabulary: Vocabulary, text: str, *, max_tokens: int, sampling: Sampling, max_draft_tokens: int
) -> Segment:
    """Return the complete prompt as a segment; its translation is the answer, up to `max_tokens` tokens.

    A chat model gets the text as the user's turn of its template; a model without a template gets the bare text. A
    model that only translates takes "Translate to French: …"; a text that names no language gets the model's first one,
    and the segment of one that cannot be translated is finished.
    Raises ValueError for an empty prompt or one that is too long, UnsupportedPrompt (a ValueError).
    """
    if not text.strip():
        raise ValueError("the prompt is empty; expected a text")
    if max_tokens < 1:
        raise ValueError(f"max_tokens is the most that is written, at least 1, got {max_tokens}")
    session = Session(
        mode="completion",
        sampling=sampling,
        # The answer need not consist of words, so no word is cut.
        limits=Limits(max_tokens_per_word=max_tokens),
        speculation=Speculation(enabled=max_draft_tokens > 0, max_draft_tokens=max(1, max_draft_tokens)),
    )
    try:
        segment = segments.end(_framed(vocabulary, session, text), 0)
    except Refused as refused:
        raise unsupported(refused) from refused
    source, prompt = segment.source, segment.prompt
    num_source = len(source.tokens)
    if not source.words:
        raise ValueError("the prompt has no words; expected a text")
    if num_source >= prompt.max_source_tokens:
        raise ValueError(f"the prompt has {num_source} tokens, the model takes {prompt.max_source_tokens}; shorten it")
    if source.is_copied:
        return _copied(segment, text, vocabulary, max_tokens=max_tokens)
    num_target = min(segment.max_target_tokens, len(prompt.target) + max_tokens)
    # `max_tokens` is the measure of the answer's length, not the source.
    prompt = replace(prompt, max_target_tokens=num_target, is_translation=False)
    return segments.exhaust(replace(segment, source=replace(source, prompt=prompt)))


def _framed(vocabulary: Vocabulary, session: Session, text: str) -> Segment:
    # The text in the frame of its answer. A model that only translates reads it word by word, as it does a stream.
    lane, card = (next(lane_numbers), 0), vocabulary.card
    if card.prompt is None:
        prompt, tokens = _whole(vocabulary, session, text)
        return segments.append(segments.framed(0, lane, session, prompt), text, tokens, 0)
    named, text = split_instruction(text)
    language = named or next(iter(card.prompt.source))
    session = replace(session, source_language=card.source_language, target_language=language)
    segment = segments.begin(0, lane, session, vocabulary)
    for word in source_words(text):
        segment = segments.append(segment, word, sources.encode(segment.source, word, vocabulary), 0)
    return segment


def _whole(vocabulary: Vocabulary, session: Session, text: str) -> tuple[Prompt, tuple[int, ...]]:
    # The frame of the answer, and the tokens of the text as it is.
    if not isinstance(vocabulary.prompts, UnknownPrompts):
        return vocabulary.prompt(session), vocabulary.encode_word(text, "")
    *source, last = (int(token) for token in vocabulary.tokenizer.encode(text))
    size = vocabulary.max_positions
    prompt = Prompt(
        (), (), (last,), max_source_tokens=size, max_target_tokens=size, max_context_tokens=size, is_contiguous=True
    )
    return prompt, (*source,)


def _copied(segment: Segment, text: str, vocabulary: Vocabulary, *, max_tokens: int) -> Segment:
    # What cannot be translated is its own translation, as in a stream.
    _, text = split_instruction(text)
    tokens = vocabulary.encode_word(text, "")
    answer = replace(segment.decode, tokens=tokens[:max_tokens])
    return replace(segment, decode=answer, finish_reason="length" if len(tokens) > max_tokens else "stop")
