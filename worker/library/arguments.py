"""The arguments of the library's functions, checked before anything is computed."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from protocol import Limits, Sampling, Session, WaitK


def token_list(tokens: Any) -> list[int]:
    """Return the token ids of one row, given as an id, a sequence, or an array of shape (), (n,) or (1, n).

    Raises ValueError for several rows, TypeError for a value that holds no ids.
    """
    values = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    if isinstance(values, int):
        return [values]
    row = list(values)
    if row and isinstance(row[0], Iterable):
        if len(row) != 1:
            raise ValueError(f"expected the tokens of one sequence, got {len(row)} rows; call it for each of them")
        row = list(row[0])
    return [int(token) for token in row]


def check_segments(source_seg_len: Sequence[int]) -> None:
    """Raise ValueError unless these are the token counts of a prompt, of words and of an end marker."""
    if len(source_seg_len) < 2:
        raise ValueError(
            f"source_seg_len is [prompt, word 1 … word N, end], at least two numbers, got {list(source_seg_len)}"
        )
    if any(length < 0 for length in source_seg_len):
        raise ValueError(f"source_seg_len counts tokens, 0 or more each, got {list(source_seg_len)}")


def source_segments(source_token_ids: Any, source_seg_len: Any) -> list[tuple[int, ...]]:
    """Split the source into its prompt, its words and its end; return an empty list for an empty source.

    Raises ValueError if the lengths do not add up to the tokens.
    """
    tokens, lengths = token_list(source_token_ids), token_list(source_seg_len)
    if not tokens and not any(lengths):
        return []
    check_segments(lengths)
    if sum(lengths) != len(tokens):
        raise ValueError(
            f"source_seg_len adds up to {sum(lengths)}, but source_token_ids holds {len(tokens)} tokens; "
            "take both from prepare_source_text()"
        )
    if min(tokens) < 0:
        raise ValueError(f"source_token_ids holds {min(tokens)}; token ids are 0 or more")
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return [tuple(tokens[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


def session_options(
    *,
    wait_k: int,
    max_new_words: int | None,
    max_tokens_per_word: int,
    temp: float,
    top_p: float,
    repetition_penalty: float | None,
    repetition_context_size: int,
    seed: int,
) -> Session:
    """Return the options of a streaming session. Raises ValueError that names the argument that is out of range."""
    _check_whole("wait_k", wait_k, 1)
    _check_whole("max_new_words", max_new_words if max_new_words is not None else 1, 1)
    _check_whole("max_tokens_per_word", max_tokens_per_word, 1)
    _check_whole("repetition_context_size", repetition_context_size, 0)
    _check_whole("seed", seed, 0)
    if not 0 <= temp < math.inf:
        raise ValueError(f"temp must be 0 (greedy) or more, got {temp}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    if repetition_penalty is not None and not 0 < repetition_penalty < math.inf:
        raise ValueError(f"repetition_penalty must be above 0, or None for none, got {repetition_penalty}")
    return Session(
        policy=WaitK(k=wait_k),
        sampling=Sampling(
            temperature=temp,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            repetition_context_size=repetition_context_size,
            seed=seed,
        ),
        limits=Limits(max_new_words=max_new_words, max_tokens_per_word=max_tokens_per_word),
    )


def _check_whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
