"""Stopping criteria for your own generation loop: a word boundary, a length, the end of the sequence.

Call a criterion with the tokens written so far; it returns `(should_stop, remove_last_token)`. The library's generators
do not use them: `core.words` finds their word boundaries, without a stop at punctuation.
"""

from collections.abc import Iterable
from typing import Any

from worker.core.words import UNFINISHED, starts_word
from worker.library.arguments import token_list

PUNCTUATION = ".,!?;:"
Verdict = tuple[bool, bool]
"""`(should_stop, remove_last_token)`."""


class WordBoundaryStoppingCriteria:
    """A stop after each word: call it with the tokens of the current word, the newest one last.

    - The newest token begins another word (white space, or a character of a script without spaces): stop, remove it.
    - It ends with one of `.,!?;:`: stop, keep it; not with `punctuation=False`, which leaves "dog," in one word.
    - It ends the sequence, or the word has `max_tokens_per_word` tokens: stop, keep it.

    `tokenizer` needs a `decode(list of ids)`; its end tokens are used unless `eos_token_ids` are given.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_tokens_per_word: int = 50,
        *,
        eos_token_ids: Iterable[int] | None = None,
        punctuation: bool = True,
    ) -> None:
        if max_tokens_per_word < 1:
            raise ValueError(f"max_tokens_per_word must be at least 1, got {max_tokens_per_word}")
        self.tokenizer = tokenizer
        self.max_tokens_per_word = max_tokens_per_word
        self.eos_token_ids = _eos_tokens(tokenizer) if eos_token_ids is None else frozenset(eos_token_ids)
        self.punctuation = punctuation

    def __call__(self, tokens: Any, *_: object, **__: object) -> Verdict:
        """Return `(should_stop, remove_last_token)` for the word's tokens; ignore further arguments (scores)."""
        ids = token_list(tokens)
        if not ids:
            return False, False
        if ids[-1] in self.eos_token_ids:
            return True, False
        text = self._decode(ids)
        if self._is_boundary(ids, text):
            return True, True
        is_mark = self.punctuation and text.endswith(tuple(PUNCTUATION))
        return is_mark or len(ids) >= self.max_tokens_per_word, False

    def _is_boundary(self, ids: list[int], text: str) -> bool:
        body = text.lstrip()
        if not body:
            return bool(text)
        if any(char.isspace() for char in body):
            return True
        before = self._decode(ids[:-1]) if len(ids) > 1 else ""
        return text.startswith(before) and starts_word(before, text[len(before) :])

    def _decode(self, ids: list[int]) -> str:
        # An incomplete character decodes to a replacement mark, which is not text.
        return str(self.tokenizer.decode(ids)).rstrip(UNFINISHED)


class MaxLengthStoppingCriteria:
    """A stop at `max_length` tokens: call it with all tokens, or with their number."""

    def __init__(self, max_length: int) -> None:
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        self.max_length = max_length

    def __call__(self, tokens: Any, *_: object, **__: object) -> Verdict:
        """Return `(should_stop, remove_last_token)`; the last token is kept."""
        num_tokens = tokens if isinstance(tokens, int) else len(token_list(tokens))
        return num_tokens >= self.max_length, False


class EOSStoppingCriteria:
    """A stop at `eos_token_id` (or one of several): call it with the tokens written, or with the newest one."""

    def __init__(self, eos_token_id: int | Iterable[int]) -> None:
        self.eos_token_ids = frozenset(
            token_list(eos_token_id if isinstance(eos_token_id, int) else list(eos_token_id))
        )

    def __call__(self, tokens: Any, *_: object, **__: object) -> Verdict:
        """Return `(should_stop, remove_last_token)`; the end token is kept."""
        ids = token_list(tokens)
        return bool(ids) and ids[-1] in self.eos_token_ids, False


def _eos_tokens(tokenizer: Any) -> frozenset[int]:
    # mlx-lm's wrapper has several end tokens, a plain tokenizer has one, an object with only decode() has none.
    several = getattr(tokenizer, "eos_token_ids", None)
    tokens = set(several) if isinstance(several, (set, frozenset, list, tuple)) else set()
    single = getattr(tokenizer, "eos_token_id", None)
    return frozenset(tokens | ({single} if isinstance(single, int) else set()))
