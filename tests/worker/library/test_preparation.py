"""Prompts to source tokens and segments."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from worker import StreamingDataPreparator
from worker.core.words import source_words
from worker.engine.errors import UnsupportedPrompt
from worker.engine.text.tokenizer import Vocabulary

INSTRUCTION = "Translate the following English text to French. Output only the translation.\n\n"
LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@LAW
@given(text=st.text(max_size=60) | st.lists(st.sampled_from(["<|im_end|>", "</s>", "<2de>", "<t>", "a"])).map(" ".join))
def test_segments_add_up_and_words_never_become_special_tokens(
    tokenizer: Any, vocabulary: Vocabulary, text: str
) -> None:
    """Lengths add up; between prompt and end there are as many words as the text has, none of them a special token."""
    preparator = StreamingDataPreparator(tokenizer, target_language="fr")
    _, token_ids, lengths = preparator.prepare_source_text(f"Translate to German: {text}")
    assert sum(lengths) == len(token_ids)
    assert len(lengths) == len(source_words(text)) + 2
    assert tuple(token_ids[: lengths[0]]) == vocabulary.encode_special("<2de>")
    words = token_ids[lengths[0] : len(token_ids) - lengths[-1]]
    assert not {*tokenizer.all_special_ids} & {*words}


def test_an_instruction_chooses_the_language_and_is_not_counted(tokenizer: Any) -> None:
    """The words behind "Translate to French:" are the source."""
    formatted, _, lengths = StreamingDataPreparator(tokenizer).prepare_source_text(
        "Translate to French: Hello, how are you?"
    )
    assert len(lengths) == 1 + 4 + 1
    assert formatted == "<2fr> Hello, how are you?</s>"


def test_invisible_characters_do_not_count(tokenizer: Any) -> None:
    """Neither in the instruction nor in the words; compatibility forms are what they look like."""
    plain = StreamingDataPreparator(tokenizer).prepare_source_text("Translate to French: My sister-in-law knows.")
    spoilt = "\ufeffTranslate to French:\u200b \u200e My\u00a0sister\u2011in\u2011law \u2060 kn\u00adows\ufeff."
    assert StreamingDataPreparator(tokenizer).prepare_source_text(spoilt) == plain


def test_a_language_may_be_given_beside_the_text(tokenizer: Any) -> None:
    """`target_language` is a code or a name; an instruction in the text wins."""
    expected = StreamingDataPreparator(tokenizer).prepare_source_text("Translate to German: Hello")
    for language in ("de", "German"):
        assert StreamingDataPreparator(tokenizer, target_language=language).prepare_source_text("Hello") == expected
    french = StreamingDataPreparator(tokenizer, target_language="fr")
    assert french.prepare_source_text("Translate to German: Hello") == expected


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Summarize this text: all is well", "begin the prompt with 'Translate to French:'"),
        ("Hello", "only translates"),
        ("Translate to Spanish: Hello", "translates into fr .French. or de .German., got target_language 'es'"),
    ],
)
def test_what_the_model_has_not_learned_is_refused(tokenizer: Any, prompt: str, message: str) -> None:
    """Another instruction, none, or another language: an error that says what would work."""
    with pytest.raises(ValueError, match=message) as caught:
        StreamingDataPreparator(tokenizer).prepare_source_text(prompt)
    assert isinstance(caught.value, UnsupportedPrompt)


def test_a_transformers_tokenizer_gives_the_training_tokens(tokenizer: Any, shipped_path: str) -> None:
    """Numbers too, although the automatic class has a pre-tokenizer of its own."""
    automatic = AutoTokenizer.from_pretrained(shipped_path)
    text = "Translate to French: It costs 12345 euros in 2024."
    ours = StreamingDataPreparator(tokenizer).prepare_source_text(text)
    assert StreamingDataPreparator(automatic).prepare_source_text(text) == ours


def test_a_chat_model_gets_the_prompt_in_its_users_turn(stock: tuple[Any, Any]) -> None:
    """A prompt is source, whole; an instruction to translate is not: no word of it would be waited for."""
    preparator = StreamingDataPreparator(stock[1])
    for text, expected, num_words in (
        ("Say hello you", "Say hello you", 3),
        ("Translate to French: Hello you", INSTRUCTION + "Hello you", 2),
    ):
        formatted, token_ids, lengths = preparator.prepare_source_text(text)
        assert formatted == f"<|im_start|>user\n{expected}<|im_end|>\n"
        assert len(lengths) == 1 + num_words + 1
        assert sum(lengths) == len(token_ids)


def test_a_chat_model_takes_a_system_prompt_and_a_language(stock: tuple[Any, Any]) -> None:
    """Both go into the prompt segment, before the words."""
    preparator = StreamingDataPreparator(stock[1], target_language="French", system_prompt="Be brief.")
    formatted, token_ids, lengths = preparator.prepare_source_text("Hello you")
    assert formatted.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTranslate the following")
    assert formatted.endswith("\n\nHello you<|im_end|>\n")
    assert len(lengths) == 1 + 2 + 1
    assert sum(lengths) == len(token_ids)


def test_words_for_a_chat_model_never_become_special_tokens(stock: tuple[Any, Any]) -> None:
    """The end token of its template, typed by a user, is text."""
    _, token_ids, lengths = StreamingDataPreparator(stock[1]).prepare_source_text("stop <|im_end|> now")
    words = token_ids[lengths[0] : len(token_ids) - lengths[-1]]
    assert not {*stock[1].all_special_ids} & {*words}


def test_a_model_without_a_prompt_is_refused(tokenizer: Any, untemplated: Any) -> None:
    """Neither card nor template; or a system prompt where there is no place for one."""
    with pytest.raises(UnsupportedPrompt, match="neither a chat template nor"):
        StreamingDataPreparator(untemplated).prepare_source_text("Hello")
    for other in (tokenizer, untemplated):
        with pytest.raises(UnsupportedPrompt, match="no chat template"):
            StreamingDataPreparator(other, system_prompt="Be brief.")
    with pytest.raises(TypeError, match="expected mlx-lm's TokenizerWrapper"):
        StreamingDataPreparator(object())
