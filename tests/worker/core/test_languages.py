"""Languages and the instructions that name one."""

import pytest

from worker.core.languages import NAMES, language_code, language_name, split_instruction


@pytest.mark.parametrize("code", NAMES)
def test_names_and_codes_are_inverse(code: str) -> None:
    """Every language is found by its name, in any case, and by its code."""
    assert language_code(language_name(code).upper()) == code
    assert language_code(code.upper()) == code


@pytest.mark.parametrize(
    ("prompt", "code", "rest"),
    [
        ("Translate to French: Hello there", "fr", "Hello there"),
        ("translate the following English text into german:\nHello", "de", "Hello"),
        ("Translate from English to French. Hello", "fr", "Hello"),
        ("Translate this sentence to German:", "de", ""),
        ("\ufeffTranslate\u00a0to Fr\u00adench: My o\ufb03ce", "fr", "My office"),
        ("Translate to French", None, "Translate to French"),
        ("Tell me about translation to French: now", None, "Tell me about translation to French: now"),
        ("", None, ""),
    ],
)
def test_instructions(prompt: str, code: str | None, rest: str) -> None:
    """Only a leading instruction with an end to it is one."""
    assert split_instruction(prompt) == (code, rest)
