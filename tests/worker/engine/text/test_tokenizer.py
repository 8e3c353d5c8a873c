"""Words to tokens and back, on the shipped tokenizer and on a chat model's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from protocol import Limits, Session
from worker.core import segment as segments
from worker.core import words, writing
from worker.engine.loading import load_vocabulary, model_path
from worker.engine.text.card import Card
from worker.engine.text.tokenizer import Vocabulary

STARTER = load_vocabulary("starter")
SPECIALS = [
    "<|im_start|>",
    "<|im_end|>",
    "</s>",
    "<2fr>",
    "<2de>",
    "<t>",
    "<pad>",
    "<|endoftext|>",
    "</s></s>",
    "x<t>y",
    "[INST]",
]
SENTENCES = [
    "The weather is nice, and we're going to the park.",
    "In 2024 it cost 3.14 (or $1,250,000) — 50% more than in 1999!",
    'Où est l\'été? "Là-bas", dit-elle; ça va.',
    "e-mail: someone@example.org, http://example.org/a?b=c&d",
    "Straße ﬁn 🙂 naïve",
]


def tokens_of(vocabulary: Vocabulary, text: str) -> list[int]:
    split = text.split()
    return [t for i, word in enumerate(split) for t in vocabulary.encode_word(word, split[i - 1] if i else "")]


@pytest.mark.parametrize("word", SPECIALS)
@pytest.mark.parametrize("previous", ["", "and", "世"])
def test_special_tokens_are_text_in_a_users_words(chat: Vocabulary, word: str, previous: str) -> None:
    """A word that looks like a special token has the tokens of its characters, and decodes back."""
    for vocabulary in (STARTER, chat):
        tokens = vocabulary.encode_word(word, previous)
        special = {i for i, token in vocabulary._backend.get_added_tokens_decoder().items() if token.special}
        assert not special & set(tokens)
        assert vocabulary.decode(tokens).strip() == word


@given(st.text(min_size=1, max_size=12).filter(lambda text: text == "".join(text.split())))
def test_any_word_comes_back(word: str) -> None:
    """Whatever a word is made of, its tokens are its text (straight quotes for curly ones)."""
    straight = word.replace("\u2019", "'").replace("\u2018", "'").replace("\u02bc", "'")
    tokens = STARTER.encode_word(word, "and")
    assert min(tokens) > 4
    assert STARTER.decode(tokens).removeprefix(" ") == straight
    assert STARTER.encode_word("", word) == ()


@pytest.mark.parametrize("text", SENTENCES)
def test_words_are_the_tokens_of_the_whole(text: str) -> None:
    """Word by word or at once, the tokens of tokenizer.json: of numbers too, whose digits a Qwen2 class splits."""
    whole = Tokenizer.from_file(str(model_path("starter") / "tokenizer.json"))
    assert tokens_of(STARTER, text) == whole.encode(" " + text, add_special_tokens=False).ids


def test_a_chat_models_first_word_has_no_space(chat: Vocabulary) -> None:
    """The template ends where the first word begins; the others bring their space."""
    assert chat.decode(tokens_of(chat, "one two")) == "one two"
    assert chat.decode(chat.encode_word("界", "世")) == "界"


def test_word_starts_begin_words(chat: Vocabulary) -> None:
    """Right behind a finished word only a token that begins another, or the end, may come."""
    for vocabulary, size in ((STARTER, 8000), (chat, 300)):
        allowed = np.flatnonzero(np.array(vocabulary.word_starts(size)))
        assert set(vocabulary.eos_tokens) <= set(allowed.tolist())
        for token in set(allowed.tolist()) - vocabulary.eos_tokens:
            piece = vocabulary.decode([*vocabulary.encode_word("a", "b"), token])[2:]
            assert words.starts_word("a", piece), (token, piece)
    assert 225 in np.flatnonzero(np.array(STARTER.word_starts(8000)))


def test_forbidden_are_specials_and_strangers(chat: Vocabulary) -> None:
    """All special tokens but the end, and what the model has beyond its tokenizer, are no text."""
    assert np.flatnonzero(np.array(STARTER.forbidden(16_003))).tolist() == [0, 1, 2, 4, 16_000, 16_001, 16_002]
    assert STARTER.eos_tokens == {3}
    assert np.flatnonzero(np.array(chat.forbidden(260))).tolist() == [256, 258, 259]
    assert chat.eos_tokens == {257}


def test_both_kinds_of_tokenizer(chat: Vocabulary) -> None:
    """A transformers tokenizer does as well as mlx-lm's wrapper of it."""
    inner = STARTER.tokenizer._tokenizer
    assert Vocabulary(inner, STARTER.card).encode_word("Hello", "") == STARTER.encode_word("Hello", "")
    assert Vocabulary(inner, Card()).eos_tokens == {3}


@given(st.lists(st.integers(0, STARTER.tokenizer.vocab_size - 1), max_size=60), st.sampled_from([2, 50]))
def test_whatever_is_drawn_comes_out_as_words(tokens: list[int], max_tokens_per_word: int) -> None:
    """Any tokens, parts of characters among them: words without white space and broken characters, and texts that have
    nothing but white space besides.
    """
    session = Session(target_language="fr", limits=Limits(max_tokens_per_word=max_tokens_per_word))
    segment = segments.append(segments.begin(0, (0, 0), session, STARTER), "a", (100,) * 200, 0)
    segment, text, found = segments.end(segment, 0), "", list[str]()
    for token in (*(token for token in tokens if token not in STARTER.eos_tokens), *STARTER.eos_tokens):
        segment, new_words = writing.take(segment, token, STARTER)
        text += "".join(word.written.text for word in new_words)
        found += [word.written.text.strip() for word in new_words]
    assert all(word and word == "".join(word.split()) and "\ufffd" not in word for word in found)
    assert "".join(text.split()) == "".join(found)


def test_what_may_stand_in_an_answer(chat: Vocabulary) -> None:
    """No line break; what opens it is no quote and no markup, but may be a part of a letter, or the end."""
    size = 258
    breaks, openings = (np.array(mask(size)) for mask in (chat.line_breaks, chat.openings))
    ids = {text: chat.encode_special(text) for text in ("\n", "\r", " ", "a", "7", '"', "*", "`", "<", "#", "é", "«")}
    assert {text for text, (first, *_) in ids.items() if breaks[first]} == {"\n", "\r"}
    assert {text for text, (first, *_) in ids.items() if not openings[first]} == {'"', "*", "`", "<", "#"}
    assert all(openings[token] and not breaks[token] for token in chat.eos_tokens)


def test_which_tokens_introduce_an_answer(chat: Vocabulary) -> None:
    """By the text that each adds behind another; bytes alone say nothing."""
    assert not np.array(chat.introductions(258)).any()
    found = np.flatnonzero(np.array(STARTER.introductions(16_000))).tolist()
    told = {STARTER.decode((token,)).strip() for token in found}
    assert told >= {"Here", "translation", "Translation", "traduction", "translated"}
    assert not told & {"here", "trans", "tradition"}
