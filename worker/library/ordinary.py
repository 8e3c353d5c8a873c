"""Ordinary prompts: read all of it, then write. In the engine they are rows of the same batch as streaming ones."""

from msgspec.structs import replace

from protocol import Limits, Sampling, Session, Speculation
from worker.core import segment as segments
from worker.core.languages import split_instruction
from worker.core.rows import Prompt, Refused
from worker.core.segment import Segment
from worker.engine.text.prompts import UnknownPrompts
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import lane_numbers
from worker.library.vocabulary import unsupported


def ordinary_prompt(
    vocabulary: Vocabulary, text: str, *, max_tokens: int, sampling: Sampling, max_draft_tokens: int
) -> Segment:
    """Return the complete prompt as a segment; its translation is the answer, up to `max_tokens` tokens.

    A chat model gets the text as the user's turn of its template; a model without a template gets the bare text. A
    model that only translates takes "Translate to French: …"; a text that names no language gets the model's first one.
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
        session, prompt, tokens = _frame(vocabulary, session, text)
    except Refused as refused:
        raise unsupported(refused) from refused
    prompt = prompt.in_layout()
    num_source = len(prompt.source) + len(tokens) + len(prompt.end)
    if num_source >= prompt.max_source_tokens:
        raise ValueError(f"the prompt has {num_source} tokens, the model takes {prompt.max_source_tokens}; shorten it")
    room = prompt.max_target_tokens - (num_source if prompt.is_contiguous else 0)
    # The segment counts the text as one word, so its length is no measure for the answer's; `max_tokens` is.
    num_target = min(room, len(prompt.target) + max_tokens)
    prompt = replace(prompt, max_target_tokens=num_target, is_translation=False)
    segment = segments.framed(0, (next(lane_numbers), 0), session, prompt)
    return segments.end(segments.append(segment, text, tokens, 0), 0)


def _frame(vocabulary: Vocabulary, session: Session, text: str) -> tuple[Session, Prompt, tuple[int, ...]]:
    # The session and the frame of the answer, and the tokens that take the place of a segment's words.
    if isinstance(vocabulary.prompts, UnknownPrompts):
        *source, last = (int(token) for token in vocabulary.tokenizer.encode(text))
        size = vocabulary.max_positions
        return (
            session,
            Prompt((), (), (last,), max_source_tokens=size, max_target_tokens=size, is_contiguous=True),
            (*source,),
        )
    card = vocabulary.card
    if card.prompt is not None:
        named, text = split_instruction(text)
        language = named or next(iter(card.prompt.source))
        session = replace(session, source_language=card.source_language, target_language=language)
    return session, vocabulary.prompt(session), vocabulary.encode_word(text, "")
