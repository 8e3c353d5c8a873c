"""When a loop of one's own should stop writing: at a word's boundary, at a length, at the end of the sequence.

Each criterion is called with the tokens written so far and returns `(should_stop, remove_last_token)`. Our own
generators do not need them: `core.words` finds their boundaries, without a stop at punctuation.
"""

from collections.abc import Iterable
from typing import Any

from worker.core.words import UNFINISHED, starts_word
from worker.library.arguments import token_list

PUNCTUATION = ".,!?;:"
Verdict = tuple[bool, bool]
"""`(should_stop, remove_last_token)`."""


class WordBoundaryStoppingCriteria:
    """Stops behind a word: call it with the tokens of the current word, the newest one last.

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
        """`(should_stop, remove_last_token)` for the current word's tokens; further arguments (scores) are ignored."""
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
        # The first bytes of a character show as a replacement mark until the rest has come: no text yet.
        return str(self.tokenizer.decode(ids)).rstrip(UNFINISHED)


class MaxLengthStoppingCriteria:
    """Stops once `max_length` tokens have been written: call it with all tokens, or with their number."""

    def __init__(self, max_length: int) -> None:
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        self.max_length = max_length

    def __call__(self, tokens: Any, *_: object, **__: object) -> Verdict:
        """`(should_stop, remove_last_token)`; the last token is kept."""
        num_tokens = tokens if isinstance(tokens, int) else len(token_list(tokens))
        return num_tokens >= self.max_length, False


class EOSStoppingCriteria:
    """Stops at `eos_token_id` (or one of several): call it with the tokens written, or with the newest one."""

    def __init__(self, eos_token_id: int | Iterable[int]) -> None:
        self.eos_token_ids = frozenset(
            token_list(eos_token_id if isinstance(eos_token_id, int) else list(eos_token_id))
        )

    def __call__(self, tokens: Any, *_: object, **__: object) -> Verdict:
        """`(should_stop, remove_last_token)`; the end token is kept."""
        ids = token_list(tokens)
        return bool(ids) and ids[-1] in self.eos_token_ids, False


def _eos_tokens(tokenizer: Any) -> frozenset[int]:
    # mlx-lm's wrapper knows several; a plain tokenizer one; a stand-in with nothing but decode() none.
    several = getattr(tokenizer, "eos_token_ids", None)
    found = set(several) if isinstance(several, (set, frozenset, list, tuple)) else set()
    single = getattr(tokenizer, "eos_token_id", None)
    return frozenset(found | ({single} if isinstance(single, int) else set()))
