"""Words to tokens and back; a user's words are never read as special tokens."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np
from tokenizers import Tokenizer

from protocol import Policy, Session
from worker.core import words
from worker.core.introductions import introduces
from worker.core.rows import Prompt
from worker.engine.errors import UnsupportedModel
from worker.engine.text.card import Card
from worker.engine.text.prompts import ChatPrompts, Prompts, TaggedPrompts, UnknownPrompts

_ANCHOR = "a"  # a tokenizer shows the space before a word only behind other text
_LINE = "\n"  # stands before a chat model's first word


class Vocabulary:
    """The words and tokens of one model: `core.rows.Vocabulary` for its tokenizer.

    `tokenizer` is mlx-lm's TokenizerWrapper or a transformers tokenizer; `max_positions` is the model's number of
    positions.
    """

    def __init__(self, tokenizer: Any, card: Card, *, max_positions: int = 32_768) -> None:
        self.tokenizer = tokenizer
        self.card = card
        self.max_positions = max_positions
        self._backend: Tokenizer = tokenizer.backend_tokenizer  # mlx-lm's wrapper passes it through
        self._plain = _without_special_tokens(self._backend)
        self._anchor, self._line = self._encode_plain(_ANCHOR), self._encode_plain(_LINE)
        self.prompts = self._prompts()

    def _prompts(self) -> Prompts:
        if self.card.prompt is not None:
            return TaggedPrompts(self.card, self.encode_special, self.max_positions)
        if getattr(self.tokenizer, "chat_template", None) is not None:
            encoders = (self.encode_special, self._encode_plain, self._encode_behind)
            return ChatPrompts(self.card, self.tokenizer, *encoders, self.max_positions)
        return UnknownPrompts(str(getattr(self.tokenizer, "name_or_path", "")))

    @cached_property
    def eos_tokens(self) -> frozenset[int]:
        """Tokens that end a translation."""
        known = getattr(self.tokenizer, "eos_token_ids", None)  # a set in mlx-lm's wrapper, one id in a bare tokenizer
        all_known = {*known} if isinstance(known, Iterable) else {known}
        return frozenset(int(token) for token in all_known | {self.tokenizer.eos_token_id} if token is not None)

    @property
    def default_policy(self) -> Policy:
        """The policy of sessions that ask for none."""
        return self.card.default_policy

    def prompt(self, session: Session) -> Prompt:
        """Return the prompt for a session's options. Raises core.rows.Refused for those that the model cannot serve."""
        return self.prompts.prompt(session)

    def encode_special(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a template's text, special tokens recognised."""
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)

    def _encode_behind(self, text: str) -> tuple[int, ...]:
        # A template's text that continues other text: some tokenizers would begin it with a space.
        both = self.encode_special(_ANCHOR + text)
        return both[len(self._anchor) :] if both[: len(self._anchor)] == self._anchor else self.encode_special(text)

    def encode_word(self, word: str, previous: str) -> tuple[int, ...]:
        """Return the tokens of a bare word that follows `previous` ("" at the start of a segment).

        `"<|im_end|>"` is encoded as the tokens of its characters; "" has none.
        """
        if not word:
            return ()
        if self.card.straight_quotes:
            word = word.replace("\u2019", "'").replace("\u2018", "'").replace("\u02bc", "'")
        lead = words.separator(previous, word) if previous else self.prompts.first_lead
        before, anchor = (_ANCHOR, self._anchor) if previous or lead else (_LINE, self._line)
        both = self._encode_plain(before + lead + word)
        return both[len(anchor) :] if both[: len(anchor)] == anchor else self._encode_plain(lead + word)

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`, special tokens left out."""
        return str(self._backend.decode(list(tokens), skip_special_tokens=True))

    @cached_property
    def _pieces(self) -> list[str]:
        # The text that each token adds behind another, with the space that a tokenizer hides at the very start.
        size = self._backend.get_vocab_size(with_added_tokens=True)
        anchored = self._backend.decode_batch([[*self._anchor, i] for i in range(size)])
        lead = self.decode(self._anchor)
        return [text[len(lead) :] if text.startswith(lead) else "" for text in anchored]

    def tokens(self) -> dict[int, str]:
        """Return the text of each token, as in the tokenizer's file."""
        return {token: piece for piece, token in self._backend.get_vocab(with_added_tokens=True).items()}

    def word_starts(self, size: int) -> mx.array:
        """Return which tokens may stand right behind a finished word, (size,) bool: those of a new word and the end."""
        return self._where(size, lambda piece: words.starts_word(_ANCHOR, piece)) | self._ends(size)

    def forbidden(self, size: int) -> mx.array:
        """Return which tokens are no text, (size,) bool: special ones but the end, and ids unknown to the tokenizer.

        Raises UnsupportedModel where the prompt holds tokens beyond `size`, the number that the model embeds.
        """
        self._check_prompts(size)
        blocked = np.zeros(size, dtype=bool)
        blocked[self._backend.get_vocab_size(with_added_tokens=True) :] = True
        special = [i for i, token in self._backend.get_added_tokens_decoder().items() if token.special and i < size]
        blocked[special] = True
        blocked[[token for token in self.eos_tokens if token < size]] = False
        return mx.array(blocked)

    def _check_prompts(self, size: int) -> None:
        source = self.card.source_language
        languages = [None] if self.card.prompt is None else list(self.card.prompt.source)
        for language in [] if isinstance(self.prompts, UnknownPrompts) else languages:
            prompt = self.prompt(Session(source_language=source, target_language=language))
            highest = max((*prompt.source, *prompt.end, *prompt.target))
            if highest >= size:
                raise UnsupportedModel(
                    f"its prompt holds the token {highest} ({self.tokens().get(highest)!r}), and the model embeds only "
                    f"{size} tokens; take the tokenizer and its chat template from where the weights come from"
                )

    def line_breaks(self, size: int) -> mx.array:
        """Return which tokens break a line, (size,) bool."""
        return self._where(size, lambda piece: "\n" in piece or "\r" in piece)

    def openings(self, size: int) -> mx.array:
        """Return which tokens may open an answer that begins with a word, (size,) bool: no quotes, no markup."""
        return self._where(size, _opens) | self._ends(size)

    def introductions(self, size: int) -> mx.array:
        """Return which tokens begin what a chat model says about its translation, (size,) bool."""
        return self._where(size, introduces)

    def _where(self, size: int, is_so: Callable[[str], bool]) -> mx.array:
        found = np.zeros(size, dtype=bool)
        found[: len(self._pieces)] = [is_so(piece) for piece in self._pieces[:size]]
        return mx.array(found)

    def _ends(self, size: int) -> mx.array:
        found = np.zeros(size, dtype=bool)
        found[[token for token in self.eos_tokens if token < size]] = True
        return mx.array(found)


def _opens(piece: str) -> bool:
    # White space and the first bytes of a character may be followed by a word.
    first = piece.lstrip()[:1]
    return not first or first.isalnum() or first in "¿¡\ufffd"


def _without_special_tokens(backend: Tokenizer) -> Tokenizer:
    # The same tokenizer without added tokens, so that it recognises none in users' words.
    spec = json.loads(backend.to_str())
    spec["added_tokens"] = []
    spec["post_processor"] = None
    return Tokenizer.from_str(json.dumps(spec))
