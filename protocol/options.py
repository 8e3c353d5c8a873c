"""The options of a session: languages or prompt, policy, sampling, limits; and how `session.update` changes them.

Structs do not check their values when built in Python; the decoders of `protocol.codec` check everything that arrives.
A program that builds options itself can check them with `protocol.codec.check`.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field, structs

from protocol.limits import (
    MAX_LANGUAGE_CHARS,
    MAX_METADATA_ENTRIES,
    MAX_METADATA_KEY_CHARS,
    MAX_METADATA_VALUE_CHARS,
    MAX_PROMPT_CHARS,
    MAX_SEED,
)
from protocol.policies import Policy


class Sampling(Struct, frozen=True, kw_only=True):
    """How a token is chosen; the same options, words and seed always choose the same tokens."""

    temperature: Annotated[float, Meta(ge=0, le=10, description="0 takes the most likely token.")] = 0.0
    top_p: Annotated[float, Meta(gt=0, le=1, description="Probability mass of the tokens to choose from; 1: all.")] = (
        1.0
    )
    repetition_penalty: (
        Annotated[float, Meta(gt=0, description="Above 1, makes repeated tokens less likely; null: off.")] | None
    ) = None
    repetition_context_size: Annotated[
        int, Meta(ge=0, le=10_000, description="How many of the last target tokens count as repeated.")
    ] = 20
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED, description="The same seed gives the same words.")] = 0


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of one session; what goes over one is cut or refused, never silently."""

    max_new_words: (
        Annotated[int, Meta(ge=1, le=1_000_000, description="Target words per segment; null: no bound.")] | None
    ) = None
    max_tokens_per_word: Annotated[int, Meta(ge=1, le=1000, description="A longer target word is cut here.")] = 50
    max_backlog_words: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Source words that may wait to be read.")
    ] = 10_000
    idle_timeout_ms: Annotated[
        int, Meta(ge=1000, le=86_400_000, description="Milliseconds without an event after which the session closes.")
    ] = 300_000


class Speculation(Struct, frozen=True, kw_only=True):
    """Drafts of target tokens; they change the speed, never the output."""

    enabled: bool = True
    max_draft_tokens: Annotated[int, Meta(ge=1, le=64, description="Drafted tokens in one pass, at most.")] = 4


Language: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=MAX_LANGUAGE_CHARS, description="Language tag such as `en` or `pt-BR`.")
]
Prompt: TypeAlias = Annotated[
    str, Meta(max_length=MAX_PROMPT_CHARS, description="Instruction for a chat model, put before the source words.")
]
Mode: TypeAlias = Literal["streaming", "completion"]
"""`streaming` writes while it reads; `completion` reads the whole segment first."""

Segmentation: TypeAlias = Literal["manual", "sentence"]
"""`manual`: a segment ends with `input_text.finalize`; `sentence`: also at the end of a sentence."""

MetadataKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_METADATA_KEY_CHARS)]
MetadataValue: TypeAlias = Annotated[str, Meta(max_length=MAX_METADATA_VALUE_CHARS)]
Metadata: TypeAlias = Annotated[
    dict[MetadataKey, MetadataValue],
    Meta(max_length=MAX_METADATA_ENTRIES, description="The client's own labels; the worker does not use them."),
]


class Session(Struct, frozen=True, kw_only=True):
    """All options of a session; `session.created` and `session.updated` report them with every default filled in.

    The default `policy` is the model's.
    """

    source_language: Language = "en"
    target_language: Language | None = None
    prompt: Prompt | None = None
    mode: Mode = "streaming"
    segmentation: Segmentation = "manual"
    policy: Policy | None = None
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    speculation: Speculation = Speculation()
    metadata: Metadata = field(default_factory=dict)


class SessionPatch(Struct, frozen=True, kw_only=True):
    """The options to change; an absent field stays as it is, `null` clears `prompt` or `target_language`, and
    asks for the model's default `policy`.
    """

    source_language: Language | UnsetType = UNSET
    target_language: Language | UnsetType | None = UNSET
    prompt: Prompt | UnsetType | None = UNSET
    mode: Mode | UnsetType = UNSET
    segmentation: Segmentation | UnsetType = UNSET
    policy: Policy | UnsetType | None = UNSET
    sampling: Sampling | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    speculation: Speculation | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


def apply_patch(session: Session, patch: SessionPatch) -> Session:
    """Return the session with the patch's fields replaced; nested options are replaced whole, not merged.

    >>> apply_patch(Session(prompt="Be brief."), SessionPatch(prompt=None, mode="completion")).mode
    'completion'
    """
    changes = {name: value for name, value in structs.asdict(patch).items() if value is not UNSET}
    return structs.replace(session, **changes)
