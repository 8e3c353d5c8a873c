"""The tokens around a segment's words: the tags of a model trained for Decalage, or a chat template."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from msgspec.structs import replace

from protocol import Session
from worker.core.languages import language_code, language_name, split_instruction
from worker.core.rows import Prompt, Refused, num_true
from worker.engine.errors import UnsupportedModel
from worker.engine.text.card import Card
from worker.engine.text.examples import examples

Encode = Callable[[str], tuple[int, ...]]
Message = Mapping[str, str]
_SLOT = "\u241f\"Words\", 'to' come\u241f"  # stands for them in a rendered template, which may not rewrite them
_WORDS: Final = {"role": "user", "content": _SLOT}
_EXAMPLES_SHARE: Final = 1 / 4  # of a model's positions
_THOUGHT = "<think>"  # some templates open a block of thoughts, whatever is asked of them


class UnsupportedLanguage(Refused):
    """The model does not translate into the language that was asked for."""

    code = "unsupported_language"


class Prompts(Protocol):
    """A model's frame around its source and its target."""

    first_lead: str  # text before a segment's first word

    def prompt(self, session: Session) -> Prompt:
        """Return the frame for a session's options. Raises Refused."""

    def split(self, text: str, target_language: str | None) -> tuple[Session, str]:
        """Split a one-off prompt of the documents into the options that it names and its source words."""


class TaggedPrompts:
    """Prompts of models trained for Decalage: one special token for each target language."""

    first_lead = " "

    def __init__(self, card: Card, encode: Encode, max_positions: int) -> None:
        if card.prompt is None:
            raise AssertionError("a tagged prompt is built from a card that has one")
        self._card = card
        self._max_positions = max_positions
        self._tags = {code: encode(tag) for code, tag in card.prompt.source.items()}
        self._end = encode(card.prompt.end)
        self._target = encode(card.prompt.target)

    @property
    def languages(self) -> str:
        """The target languages, for messages: `fr (French) or de (German)`."""
        return " or ".join(f"{code} ({language_name(code)})" for code in self._tags)

    def prompt(self, session: Session) -> Prompt:
        """Return the language tag, the end token and the start of the target."""
        asked = session.target_language
        if session.prompt is not None:
            named, rest = split_instruction(session.prompt)
            if named is None or rest.strip():
                raise Refused(
                    "this model only translates: expected a prompt like 'Translate to French:', got "
                    f"{session.prompt!r}; leave it out and set target_language, or serve a chat model",
                    param="$.session.prompt",
                )
            asked = named
        if language_code(session.source_language) != self._card.source_language:
            raise UnsupportedLanguage(
                f"this model translates from {self._card.source_language}, got source_language "
                f"{session.source_language!r}",
                param="$.session.source_language",
            )
        language = asked and language_code(asked)
        if language not in self._tags:
            raise UnsupportedLanguage(
                f"this model translates into {self.languages}, got target_language {asked!r}",
                param="$.session.target_language",
            )
        prompt = _framed(self._card, self._tags[language], self._end, self._target, max_positions=self._max_positions)
        return replace(prompt, is_translation=True, source_language=self._card.source_language)

    def split(self, text: str, target_language: str | None) -> tuple[Session, str]:
        """Split `"Translate to French: Hello"` into options for French and `"Hello"`; raise Refused for any other."""
        named, rest = split_instruction(text)
        language = named or target_language
        if language is None:
            raise Refused(
                f"this model only translates, into {self.languages}: begin the prompt with 'Translate to French:', or "
                f"give a target language; got {text[:60]!r}",
                param="$.session.prompt",
            )
        session = Session(source_language=self._card.source_language, target_language=language)
        self.prompt(session)
        return session, rest


class ChatPrompts:
    """A stock chat model: an instruction and the words in the user's turn of its own chat template."""

    first_lead = ""

    def __init__(
        self, card: Card, tokenizer: Any, special: Encode, plain: Encode, behind: Encode, max_positions: int
    ) -> None:
        self._card = card
        self._tokenizer = tokenizer
        self._special = special
        self._plain = plain
        self._max_positions = max_positions
        self._heads: dict[str, str] = {}  # with examples, by instruction
        rendered = _render(tokenizer, [_WORDS], add_generation_prompt=True)
        if (num_slots := rendered.count(_SLOT)) != 1:
            raise UnsupportedModel(
                f"its chat template shows a user's message {num_slots} times as it was written, expected once; use an "
                "instruction-tuned model"
            )
        self._head, _, tail = rendered.partition(_SLOT)
        if not tail:
            raise UnsupportedModel("its chat template does not frame a user's message; use an instruction-tuned model")
        if tail.rstrip().endswith(_THOUGHT):
            tail = f"{tail.rstrip()}\n\n</think>\n\n"
        self._closed = _render(tokenizer, [_WORDS], add_generation_prompt=False).partition(_SLOT)[2]
        closed = behind(self._closed)
        opened = behind(tail)
        # A template without an answer header leaves its last token to start the answer.
        num_end = min(num_true(closed, opened), len(opened) - 1)
        self._end, self._target = opened[:num_end], opened[num_end:]
        self._check_room()

    def _check_room(self) -> None:
        num_source, num_target = len(self._source(self._head, "")), len(self._end) + len(self._target)
        if self._card.is_contiguous:
            needed, share = 2 * max(num_source, num_target) + 1, "source and answer have half of them each"
        else:
            needed = max(num_source + num_target, self._card.position_offset)
            share = f"the answer starts at position {self._card.position_offset}"
        if self._max_positions <= needed:
            raise UnsupportedModel(
                f"its context of {self._max_positions} positions is too short: the chat template takes "
                f"{num_source + num_target} tokens, and {share}; use a model with a longer context"
            )

    def prompt(self, session: Session) -> Prompt:
        """Return the template up to the words, with the instruction as plain text; its end; the answer's header.

        An instruction of our own is shown with examples, as earlier turns, where the model was not trained without.
        """
        instruction, shown = session.prompt, list[tuple[str, str]]()
        is_translation = session.target_language is not None or split_instruction(instruction or "")[0] is not None
        if instruction is None and session.target_language is not None:
            instruction = (
                f"Translate the following {language_name(session.source_language)} text to "
                f"{language_name(session.target_language)}. Output only the translation."
            )
            # By bare codes alone: then the instruction is all ours, and may be read as a part of the template.
            shown = examples(session.source_language, session.target_language)
        lead = "" if not instruction else instruction.rstrip() + (" " if instruction.rstrip().endswith(":") else "\n\n")
        head = self._head_with(shown, lead) if shown and self._card.is_contiguous else self._head
        source = self._source(head, lead)
        prompt = _framed(self._card, source, self._end, self._target, max_positions=self._max_positions)
        if prompt.is_contiguous and session.mode == "completion":  # a long text may need all positions but a few
            room = self._max_positions
            prompt = replace(prompt, max_source_tokens=room, max_target_tokens=room, max_context_tokens=room)
        return replace(prompt, is_translation=is_translation)

    def _head_with(self, shown: Iterable[tuple[str, str]], lead: str) -> str:
        # Behind the examples; but the plain head where the template does not take them, or they take much of the room.
        if (known := self._heads.get(lead)) is not None:
            return known
        turns = [
            {"role": role, "content": text}
            for source, target in shown
            for role, text in (("user", lead + source), ("assistant", target))
        ]
        try:
            rendered = _render(self._tokenizer, [*turns, _WORDS], add_generation_prompt=False)
        except UnsupportedModel:
            rendered = ""
        head, _, closed = rendered.partition(_SLOT)
        fits = closed == self._closed and len(self._special(head)) <= self._max_positions * _EXAMPLES_SHARE
        self._heads[lead] = head if fits else self._head
        return self._heads[lead]

    def _source(self, head: str, lead: str) -> tuple[int, ...]:
        # Tokens may reach across the place where they meet; but what looks like a special token in a lead is text.
        if self._special(lead) == self._plain(lead):
            return self._special(head + lead)
        return self._special(head) + self._plain(lead)

    def split(self, text: str, target_language: str | None) -> tuple[Session, str]:
        """Split `"Translate to French: Hello"` into options for French and `"Hello"`; take any other prompt whole, as
        source for the user's turn.
        """
        named, rest = split_instruction(text)
        return Session(target_language=named or target_language), rest


class UnknownPrompts:
    """A model with neither a card nor a chat template: usable by token ids, but without any prompt."""

    first_lead = ""

    def __init__(self, name: str) -> None:
        self.reason = (
            f"{name or 'this model'} has neither a chat template nor a decalage.json that tells its prompt; use an "
            "instruction-tuned model, or one that `decalage train` has written"
        )

    def prompt(self, session: Session) -> Prompt:
        """Raise Refused."""
        raise Refused(self.reason)

    def split(self, text: str, target_language: str | None) -> tuple[Session, str]:
        """Raise Refused."""
        raise AssertionError(self.prompt(Session()))


def _framed(
    card: Card, source: tuple[int, ...], end: tuple[int, ...], target: tuple[int, ...], *, max_positions: int
) -> Prompt:
    # The frame in the model's layout. In a contiguous one, source and target share the positions; their halves are more
    # than speech needs.
    if card.is_contiguous:
        max_source = max_positions // 2
        max_target = max_positions - max_source
    else:
        max_source = card.position_offset or max_positions
        max_target = max(1, max_positions - card.position_offset)
    return Prompt(
        source=source,
        end=end,
        target=target,
        max_source_tokens=max_source,
        max_target_tokens=max_target,
        max_segment_words=card.max_segment_words,
        is_contiguous=card.is_contiguous,
    )


def _render(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    try:
        text = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=False,
        )
    except Exception as error:  # whatever a template does
        raise UnsupportedModel(
            f"its chat template does not take a user's message alone ({error}); use another instruction-tuned model"
        ) from error
    return str(text)
