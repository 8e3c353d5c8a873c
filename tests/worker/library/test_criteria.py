"""The stopping criteria of the documents: `(should_stop, remove_last_token)`."""

from typing import Any

import mlx.core as mx
import pytest

from worker import EOSStoppingCriteria, MaxLengthStoppingCriteria, WordBoundaryStoppingCriteria

PIECES = ["hello", " world", " ", ".", "hel", "lo", "世", "界", "</s>", ", "]


class Pieces:
    """A tokenizer whose tokens are the pieces above; the last bytes of a character may be missing."""

    eos_token_id = 8

    def decode(self, tokens: list[int]) -> str:
        """The pieces joined; token 100 is half a character."""
        return "".join("\ufffd" if token == 100 else PIECES[token] for token in tokens)


@pytest.mark.parametrize(
    ("tokens", "verdict"),
    [
        ([], (False, False)),
        ([0], (False, False)),
        ([1], (False, False)),  # the space before a word ends nothing
        ([0, 1], (True, True)),
        ([0, 2], (True, True)),
        ([2], (True, True)),
        ([0, 3], (True, False)),
        ([3], (True, False)),
        ([1, 3], (True, False)),
        ([4, 5], (False, False)),
        ([6], (False, False)),
        ([6, 7], (True, True)),
        ([0, 8], (True, False)),
        ([8], (True, False)),
        ([100], (False, False)),
        ([0, 100], (False, False)),
        ([0, 9], (True, True)),
    ],
)
def test_words_end_at_spaces_punctuation_and_the_end(tokens: list[int], verdict: tuple[bool, bool]) -> None:
    """A token of the next word is to be removed; punctuation and the end token are kept."""
    criteria = WordBoundaryStoppingCriteria(Pieces())
    assert criteria(tokens) == verdict
    assert criteria(mx.array(tokens, mx.int32), token_count=len(tokens)) == verdict
    assert criteria(mx.array([tokens], mx.int32), None) == verdict


def test_punctuation_can_stay_in_its_word() -> None:
    """`punctuation=False` lets "hello." go on to the space behind it."""
    criteria = WordBoundaryStoppingCriteria(Pieces(), punctuation=False)
    assert criteria([0, 3]) == (False, False)
    assert criteria([0, 3, 1]) == (True, True)


def test_a_word_that_never_ends_is_stopped() -> None:
    """`max_tokens_per_word` tokens are enough, also of a character that never completes."""
    criteria = WordBoundaryStoppingCriteria(Pieces(), max_tokens_per_word=3)
    assert criteria([4, 5]) == (False, False)
    assert criteria([4, 5, 5]) == (True, False)
    assert criteria([100, 100, 100]) == (True, False)


def test_end_tokens_can_be_given() -> None:
    """`eos_token_ids` take the place of the tokenizer's."""
    criteria = WordBoundaryStoppingCriteria(Pieces(), eos_token_ids=[5])
    assert criteria([4, 5]) == (True, False)
    assert criteria([0, 8]) == (False, False)


def test_a_real_tokenizer_is_understood(tokenizer: Any) -> None:
    """With the shipped tokenizer a loop that follows the criteria cuts words where they end."""
    tokens = tokenizer.encode(" Bonjour tout", add_special_tokens=False)
    criteria = WordBoundaryStoppingCriteria(tokenizer)
    verdicts = [criteria(tokens[:n]) for n in range(1, len(tokens) + 1)]
    first = next(i for i, (stop, _) in enumerate(verdicts) if stop)
    assert tokenizer.decode(tokens[:first]).strip() == "Bonjour"
    assert verdicts[first] == (True, True)
    assert criteria([tokenizer.eos_token_id]) == (True, False)


def test_length() -> None:
    """`max_length` tokens, or that number, are the end."""
    criteria = MaxLengthStoppingCriteria(3)
    assert criteria([1, 2]) == (False, False)
    assert criteria(mx.array([[1, 2, 3]])) == (True, False)
    assert criteria(2) == (False, False)
    assert criteria(3) == (True, False)


def test_end_of_sequence() -> None:
    """The newest token counts; several end tokens may be given."""
    assert EOSStoppingCriteria(2)([1, 2]) == (True, False)
    assert EOSStoppingCriteria(2)([2, 1]) == (False, False)
    assert EOSStoppingCriteria([2, 3])(mx.array([3])) == (True, False)
    assert EOSStoppingCriteria(2)(2) == (True, False)
    assert EOSStoppingCriteria(2)([]) == (False, False)


def test_impossible_arguments_are_refused() -> None:
    """Several rows at once, and limits below 1, are told."""
    with pytest.raises(ValueError, match="got 2 rows"):
        MaxLengthStoppingCriteria(3)([[1], [2]])
    with pytest.raises(ValueError, match="max_length must be at least 1"):
        MaxLengthStoppingCriteria(0)
    with pytest.raises(ValueError, match="max_tokens_per_word must be at least 1"):
        WordBoundaryStoppingCriteria(Pieces(), max_tokens_per_word=0)
