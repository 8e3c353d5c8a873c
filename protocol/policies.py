"""The read/write policies that a session may ask for, and their names in commands, results and file names.

Every policy decides when enough source is read for the next target word; `worker.core.policies` implements them.
"""

import re
from collections.abc import Callable
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

_MAX_K = 1000
_MAX_TOKENS = 1000


class WaitK(Struct, frozen=True, kw_only=True, tag_field="type", tag="wait-k"):
    """Read k source words first, then write one target word for every further source word read (Ma et al. 2019)."""

    k: Annotated[int, Meta(ge=1, le=_MAX_K, description="Source words read before the first target word.")] = 3
    catchup: Annotated[
        float,
        Meta(ge=-1, le=0.9, description="Extra target words for each source word; below 0: fewer."),
    ] = 0.0


class Adaptive(Struct, frozen=True, kw_only=True, tag_field="type", tag="adaptive"):
    """Write while the model is sure of the next word, between wait-`min_k` and wait-`max_k` (Zheng et al. 2020)."""

    min_k: Annotated[int, Meta(ge=1, le=_MAX_K, description="Least lag in source words.")] = 1
    max_k: Annotated[
        int,
        Meta(ge=1, le=_MAX_K, description="Largest lag in source words; then the next word is written, sure or not."),
    ] = 5
    threshold: Annotated[
        float, Meta(ge=0, le=1, description="Least probability of a word's tokens to write it at `min_k`.")
    ] = 0.9

    def __post_init__(self) -> None:
        """Raise ValueError for bounds that cross; decoders report it as an invalid event."""
        if self.max_k < self.min_k:
            raise ValueError(f"expected max_k of at least min_k, {self.min_k}, got {self.max_k}")


class LocalAgreement(Struct, frozen=True, kw_only=True, tag_field="type", tag="local-agreement"):
    """Translate on after each source word; write what two translations in a row agree on (Liu et al. 2020)."""

    k: Annotated[int, Meta(ge=1, le=_MAX_K, description="Source words read before the first translation.")] = 2
    max_ahead_tokens: Annotated[
        int, Meta(ge=1, le=_MAX_TOKENS, description="Tokens to translate beyond what has been agreed on.")
    ] = 16


class AlignAtt(Struct, frozen=True, kw_only=True, tag_field="type", tag="align-att"):
    """Write while the model attends to source words that are not the newest ones, else read on (Papi et al. 2023)."""

    k: Annotated[int, Meta(ge=1, le=_MAX_K, description="Source words read before the first target word.")] = 1
    frame_words: Annotated[
        int,
        Meta(ge=1, le=_MAX_K, description="Newest source words; a target word that attends most to one of them waits."),
    ] = 2


Policy: TypeAlias = WaitK | Adaptive | LocalAgreement | AlignAtt
"""All read/write policies, told apart by `type`."""

DEFAULT_POLICY: Final = WaitK()
"""The policy of sessions that ask for none, with a model whose card names none."""

_NUMBER: Final = r"-?[0-9]+(?:\.[0-9]+)?"
_FORMS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Policy]], ...]] = (
    (
        re.compile(rf"wait-([0-9]+)(?:~({_NUMBER}))?"),
        lambda found: WaitK(k=int(found[1]), catchup=float(found[2] or 0)),
    ),
    (
        re.compile(rf"adaptive-([0-9]+)-([0-9]+)-({_NUMBER})"),
        lambda found: Adaptive(min_k=int(found[1]), max_k=int(found[2]), threshold=float(found[3])),
    ),
    (
        re.compile(r"local-agreement-([0-9]+)-([0-9]+)"),
        lambda found: LocalAgreement(k=int(found[1]), max_ahead_tokens=int(found[2])),
    ),
    (
        re.compile(r"align-att-([0-9]+)-([0-9]+)"),
        lambda found: AlignAtt(k=int(found[1]), frame_words=int(found[2])),
    ),
)
POLICY_FORMS: Final = (
    "wait-K, wait-K~CATCHUP, adaptive-MIN-MAX-THRESHOLD, local-agreement-K-TOKENS or align-att-K-WORDS"
)


def policy_name(policy: Policy) -> str:
    """Return the policy's name.

    >>> policy_name(WaitK(k=3)), policy_name(WaitK(k=3, catchup=0.1)), policy_name(Adaptive(threshold=0.4))
    ('wait-3', 'wait-3~0.1', 'adaptive-1-5-0.4')
    """
    match policy:
        case WaitK():
            return f"wait-{policy.k}" + (f"~{policy.catchup:g}" if policy.catchup else "")
        case Adaptive():
            return f"adaptive-{policy.min_k}-{policy.max_k}-{policy.threshold:g}"
        case LocalAgreement():
            return f"local-agreement-{policy.k}-{policy.max_ahead_tokens}"
        case AlignAtt():
            return f"align-att-{policy.k}-{policy.frame_words}"


def parse_policy(name: str) -> Policy:
    """Return the policy with this name. Its numbers are not checked: use `protocol.check`.

    Raises ValueError for any other name.

    >>> parse_policy("wait-5")
    WaitK(k=5, catchup=0.0)
    """
    for pattern, build in _FORMS:
        if match := pattern.fullmatch(name):
            return build(match)
    raise ValueError(f"expected a policy such as wait-3 or adaptive-1-5-0.9 ({POLICY_FORMS}), got {name!r}")
