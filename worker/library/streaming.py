"""The streaming generators: they write words with a lag of k behind the words that they read."""

from collections.abc import Generator, Sequence
from typing import Any

from msgspec.structs import asdict, replace

from protocol import Session
from worker.core import segment as segments
from worker.core import source as sources
from worker.core.rows import Prompt, Refused
from worker.core.segment import Segment
from worker.engine.model import StreamingModel
from worker.engine.text.tokenizer import Vocabulary
from worker.library.arguments import session_options, source_segments
from worker.library.preparation import StreamingDataPreparator
from worker.library.responses import Response, responses
from worker.library.running import lane_numbers, runner_of
from worker.library.vocabulary import unsupported, vocabulary_of


def stream_generate_streaming(
    model: StreamingModel,
    tokenizer: Any,
    source_token_ids: Any,
    source_seg_len: Sequence[int],
    wait_k: int = 3,
    *,
    max_new_words: int | None = None,
    max_tokens_per_word: int = 50,
    temp: float = 0.0,
    top_p: float = 1.0,
    repetition_penalty: float | None = None,
    repetition_context_size: int = 20,
    seed: int = 0,
    position_offset: int | None = None,
) -> Generator[dict[str, Any]]:
    """Yield one dict for every target token, with the fields of `Response`; nothing for an empty source.

    `source_token_ids` (a sequence, or an array (n,) or (1, n)) and `source_seg_len` are as `prepare_source_text`
    returns them. `position_offset` replaces the model's φ; a stock model, whose positions run on, gets group positions
    by it. Sampling depends on `seed` and position only: the same call gives the same words, also while other generators
    run. The call itself raises ValueError, TypeError for another kind of model or tokenizer, UnsupportedPrompt (a
    ValueError) for a model without a prompt; the iteration raises EngineError.
    """
    session = session_options(
        wait_k=wait_k,
        max_new_words=max_new_words,
        max_tokens_per_word=max_tokens_per_word,
        temp=temp,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        repetition_context_size=repetition_context_size,
        seed=seed,
    )
    source = source_segments(source_token_ids, source_seg_len)
    answers = _generate(model, tokenizer, source, session, position_offset=position_offset)
    return (asdict(response) for response in answers)


def stream_generate_streaming_llm(
    model: StreamingModel,
    tokenizer: Any,
    prompt: str,
    wait_k: int = 3,
    *,
    target_language: str | None = None,
    system_prompt: str | None = None,
    max_new_words: int | None = None,
    max_tokens_per_word: int = 50,
    temp: float = 0.0,
    top_p: float = 1.0,
    repetition_penalty: float | None = None,
    repetition_context_size: int = 20,
    seed: int = 0,
    position_offset: int | None = None,
) -> Generator[Response]:
    """Yield one `Response` for every target token of a prompt such as "Translate to French: Hello, how are you?".

    `StreamingDataPreparator` describes the prompt; `stream_generate_streaming` the other arguments and the errors.
    """
    session = session_options(
        wait_k=wait_k,
        max_new_words=max_new_words,
        max_tokens_per_word=max_tokens_per_word,
        temp=temp,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        repetition_context_size=repetition_context_size,
        seed=seed,
    )
    preparator = StreamingDataPreparator(tokenizer, target_language=target_language, system_prompt=system_prompt)
    _, token_ids, lengths = preparator.prepare_source_text(prompt)
    session = replace(session, target_language=preparator.split(prompt)[0].target_language)
    return _generate(model, tokenizer, source_segments(token_ids, lengths), session, position_offset=position_offset)


def _generate(
    model: StreamingModel,
    tokenizer: Any,
    source: list[tuple[int, ...]],
    session: Session,
    *,
    position_offset: int | None,
) -> Generator[Response]:
    if position_offset is not None and position_offset < 0:
        raise ValueError(f"position_offset is the position of the first target token, 0 or more, got {position_offset}")
    vocabulary = vocabulary_of(tokenizer)
    model_offset = getattr(model, "position_offset", None)
    if position_offset is None and model_offset != vocabulary.card.position_offset:
        position_offset = model_offset  # the one that `load` was given
    runner = runner_of(model, vocabulary, position_offset)
    if len(source) <= 2:  # no words
        return _nothing()
    _check_known(model, source)
    segment = _segment(vocabulary, session, source, position_offset)
    return responses(runner, segment, vocabulary, source_tokens=source[1:-1])


def _nothing() -> Generator[Response]:
    yield from ()


def _check_known(model: StreamingModel, source: list[tuple[int, ...]]) -> None:
    size = getattr(getattr(model, "args", None), "vocab_size", None)
    highest = max(token for tokens in source for token in tokens)
    if isinstance(size, int) and highest >= size:
        raise ValueError(
            f"source_token_ids holds {highest}, but the model knows {size} tokens; the tokenizer is another model's"
        )


def _segment(
    vocabulary: Vocabulary, session: Session, source: list[tuple[int, ...]], position_offset: int | None
) -> Segment:
    # A complete segment whose source is given as tokens. A φ of the caller's own asks for group positions.
    prompt_tokens, *words, end = source
    session, prompt = _prompt(vocabulary, session, prompt_tokens)
    is_contiguous = prompt.is_contiguous and position_offset is None
    num_tokens, max_positions = sum(len(tokens) for tokens in source), vocabulary.max_positions
    if num_tokens + (len(prompt.target) if is_contiguous else 0) > max_positions:
        raise ValueError(
            f"the source has {num_tokens} tokens, the model's positions reach {max_positions}; "
            "give it a sentence at a time"
        )
    offset = vocabulary.card.position_offset if position_offset is None else position_offset
    room = max_positions - (num_tokens if is_contiguous else offset)
    frame = replace(prompt, source=prompt_tokens, end=end, max_target_tokens=max(1, room), is_contiguous=is_contiguous)
    segment = segments.framed(0, (next(lane_numbers), 0), session, frame)
    for tokens in words:
        word = vocabulary.decode(tokens).strip()
        if sources.readable(segment.prompt, word) != word:
            tokens = sources.encode(segment.source, word, vocabulary)
        segment = segments.append(segment, word, tokens, 0)
    return segments.end(segment, 0)


def _prompt(vocabulary: Vocabulary, session: Session, tokens: tuple[int, ...]) -> tuple[Session, Prompt]:
    # The tokens before the words name the language; the frame of the target is the same for all languages.
    card = vocabulary.card
    choices = [session]
    if card.prompt is not None:
        choices = [
            replace(session, source_language=card.source_language, target_language=code) for code in card.prompt.source
        ]
    try:
        prompts = [(choice, vocabulary.prompt(choice)) for choice in choices]
    except Refused as refused:
        raise unsupported(refused) from refused
    return next((pair for pair in prompts if pair[1].source == tokens), prompts[0])
