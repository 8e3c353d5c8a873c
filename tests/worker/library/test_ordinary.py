"""Ordinary prompts of a model that only translates: read as a stream is."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from worker import AsyncContinuousBatchingEngine, SpeculativeConfig, SpeculativeDecodingEngine, load
from worker.library.completions import Generation

Answers = Callable[..., Sequence[Generation]]


@pytest.fixture(scope="module")
def answers() -> Answers:
    """The shipped model's answers, given in shared passes; each is what it is alone."""
    batch = AsyncContinuousBatchingEngine(*load("starter"))
    alone = SpeculativeDecodingEngine(SpeculativeConfig(target_model_path="starter"))

    def answer(*prompts: str, max_tokens: int = 30) -> Sequence[Generation]:
        together = asyncio.run(batch.generate_batch(prompts, max_tokens=max_tokens))
        for text, given in zip(prompts, together, strict=True):
            other = alone.generate(text, max_tokens=max_tokens)
            assert (other.text, other.tokens, other.finish_reason) == (given.text, given.tokens, given.finish_reason)
        return together

    return answer


def test_what_the_model_does_not_read_changes_nothing(answers: Answers) -> None:
    """Pictographs, invisible characters, and the white space between words."""
    plain, *others = answers(
        "I love my friends.",
        "❤\ufe0f 🍕 I love my friends🎉.",
        "Translate to French: I love\u200b my friends👩\u200d👧.",
        "I \n love my   friends.",
    )
    assert plain.text
    assert [answer.text for answer in others] == [plain.text] * len(others)


@pytest.mark.parametrize("text", ["♪ ♪ ♪", "👩\u200d👧 5🎉", "Я не знаю.", "- 1 2,5 -"])
def test_what_cannot_be_translated_is_copied(text: str, answers: Answers) -> None:
    """Beside a text that can be; up to `max_tokens`."""
    copy, other, instructed = answers(text, "Thank you.", f"Translate to German: {text}")
    assert (copy.text, copy.finish_reason) == (instructed.text, instructed.finish_reason) == (text, "stop")
    assert other.text == "Merci."
    [cut] = answers(text, max_tokens=1)
    assert (cut.tokens, cut.finish_reason) == (copy.tokens[:1], "length")


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "Translate to French: "])
def test_a_prompt_without_words_is_refused(text: str, answers: Answers) -> None:
    """By both engines."""
    with pytest.raises(ValueError, match="expected a text"):
        answers(text)
