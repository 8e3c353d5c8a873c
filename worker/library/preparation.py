"""A prompt as people type it, turned into source tokens in the segments that wait-k counts."""

from typing import Any

from protocol import Session
from worker.core.languages import language_code
from worker.core.rows import Refused
from worker.core.words import source_words
from worker.engine.errors import UnsupportedPrompt
from worker.engine.text.tokenizer import Vocabulary
from worker.library.vocabulary import unsupported, vocabulary_of

_SLOT = "\u241fwords\u241f"  # the place of the words in a rendered template


class StreamingDataPreparator:
    """The source text in a model's prompt, cut into words.

    A leading "Translate to French:" or `target_language` ("fr", "French") chooses the language and is not counted as
    words. For a stock chat model, it becomes an instruction before them in the user's turn of its chat template;
    without a language all of the text is source. `system_prompt` replaces the template's.
    Raises UnsupportedPrompt (a ValueError) for a system prompt that the model has no place for.
    """

    def __init__(self, tokenizer: Any, *, target_language: str | None = None, system_prompt: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.target_language = None if target_language is None else language_code(target_language)
        self.system_prompt = system_prompt
        self._vocabulary = vocabulary_of(tokenizer)
        self._head = None if system_prompt is None else _system_head(self._vocabulary, system_prompt)

    def prepare_source_text(self, source_text: str) -> tuple[str, list[int], list[int]]:
        """Return `(formatted_text, token_ids, segment_lengths)` of a prompt; its text makes no special tokens.

        `segment_lengths` = tokens of [prompt, word 1 … word N, end]; they add up to `len(token_ids)`.
        Raises UnsupportedPrompt (a ValueError) for an instruction that the model has not learned.
        """
        vocabulary = self._vocabulary
        session, text = self.split(source_text)
        try:
            prompt = vocabulary.prompt(session)
        except Refused as refused:
            raise unsupported(refused) from refused
        words = source_words(text)
        tokens = [vocabulary.encode_word(word, previous) for word, previous in zip(words, ["", *words], strict=False)]
        segments = [self._lead(prompt.source), *tokens, prompt.end]
        token_ids = [token for segment in segments for token in segment]
        formatted_text = str(self.tokenizer.decode(token_ids, skip_special_tokens=False))
        return formatted_text, token_ids, [len(segment) for segment in segments]

    def split(self, source_text: str) -> tuple[Session, str]:
        """Return the options that a prompt names, and its source words. Raises UnsupportedPrompt."""
        try:
            return self._vocabulary.prompts.split(source_text, self.target_language)
        except Refused as refused:
            raise unsupported(refused) from refused

    def _lead(self, source: tuple[int, ...]) -> tuple[int, ...]:
        if self._head is None:
            return source
        template = self._vocabulary.prompt(Session()).source
        return self._head + source[len(template) :]


def _system_head(vocabulary: Vocabulary, system_prompt: str) -> tuple[int, ...]:
    # The template up to the user's words, with the caller's system message.
    if vocabulary.card.prompt is not None or getattr(vocabulary.tokenizer, "chat_template", None) is None:
        raise UnsupportedPrompt("this model has no chat template, so no place for a system_prompt; leave it out")
    messages = [{"role": "system", "content": system_prompt}, {"role": "user", "content": _SLOT}]
    try:
        rendered = vocabulary.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=False, enable_thinking=False
        )
    except Exception as error:  # a template without a system role raises an error of the template engine
        raise UnsupportedPrompt(
            f"the chat template of this model takes no system_prompt ({error}); leave it out"
        ) from error
    return vocabulary.encode_special(str(rendered).partition(_SLOT)[0])
