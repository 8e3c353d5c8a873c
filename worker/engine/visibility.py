"""Visibility and positions of tokens: the one rule that serving, replay and training share.

A token of a segment has a rank: i for source token i, -1 - j for target token j. A query that may see s source and t
target tokens sees the keys of ranks -t, …, s - 1, in whatever order these are stored. Models differ in their `Layout`:
the positions of the target, and how much of the source it sees.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

import mlx.core as mx
import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

FREE: Final = 2**31 - 1
"""The rank of a slot that holds no token: no query sees it."""

Bools: TypeAlias = NDArray[np.bool_]


class Layout(Protocol):
    """The positions and visibility of a segment's source and target, as a model was trained on them."""

    def target_position(self, num_source: int) -> int:
        """Return the position of the first target token, fed when `num_source` source tokens have been read."""

    def visible_source(self, num_target: int, num_source: int, recorded: Sequence[int]) -> list[int]:
        """Return how many source tokens each of `num_target` target tokens sees, fed when `num_source` have been read.

        The first of them may be fed again, to a cache that has lost them: `recorded` is what those saw at first.
        """


class GroupLayout(msgspec.Struct, frozen=True):
    """Group positions (arXiv 2505.16983): source 0, 1, …; target φ, φ + 1, …. Nothing is ever computed again, so that
    every target token keeps seeing the source that had been read when it was first fed. φ is `position_offset`.
    """

    position_offset: int = 0

    def target_position(self, num_source: int) -> int:
        """Return φ, whatever has been read."""
        return self.position_offset

    def visible_source(self, num_target: int, num_source: int, recorded: Sequence[int]) -> list[int]:
        """Return the recorded numbers, and the whole source for all later tokens."""
        return [*recorded, *[num_source] * (num_target - len(recorded))]


class ContiguousLayout(msgspec.Struct, frozen=True):
    """A plain sequence, as in a stock model: the target comes right behind its source, and sees all of it."""

    def target_position(self, num_source: int) -> int:
        """Return the position behind the source."""
        return num_source

    def visible_source(self, num_target: int, num_source: int, recorded: Sequence[int]) -> list[int]:
        """Return the whole source for each token, whatever it saw before."""
        return [num_source] * num_target


class TokenMetadata(msgspec.Struct, frozen=True):
    """For each token fed, source first: its rank, its position, and how many source and target tokens it sees."""

    ranks: list[int]
    positions: list[int]
    visible_source: list[int]
    visible_target: list[int]

    def mask(self) -> Bools:
        """Return the mask among these tokens alone: (T, T) bool, True where the query may see the key."""
        return attention_mask(self.ranks, self.visible_source, self.visible_target)


class CacheState(msgspec.Struct, frozen=True):
    """The number of a segment's tokens fed so far, and the position of its target once some of it is fed."""

    num_source: int = 0
    num_target: int = 0
    target_position: int = 0

    @property
    def num_tokens(self) -> int:
        """Number of tokens fed."""
        return self.num_source + self.num_target

    def extend(
        self, layout: Layout, num_source: int, num_target: int, recorded: Sequence[int] = ()
    ) -> tuple["CacheState", TokenMetadata]:
        """Feed source tokens, then target tokens; return the new state and the metadata of these tokens.

        `recorded`: how much source the first of the target tokens saw, where they were fed before.
        """
        source = range(self.num_source, self.num_source + num_source)
        target = range(self.num_target, self.num_target + num_target)
        begins = num_target > 0 and not self.num_target
        start = layout.target_position(source.stop) if begins else self.target_position
        metadata = TokenMetadata(
            ranks=[*source, *(-1 - j for j in target)],
            positions=[*source, *(start + j for j in target)],
            visible_source=[*(i + 1 for i in source), *layout.visible_source(num_target, source.stop, recorded)],
            visible_target=[0] * num_source + [j + 1 for j in target],
        )
        return CacheState(source.stop, target.stop, start), metadata


def attention_mask(ranks: ArrayLike, visible_source: ArrayLike, visible_target: ArrayLike) -> Bools:
    """Return the mask: (…, T, L) bool, True where the query may see the key.

    `ranks` (…, L) int are those of the keys; `visible_source` and `visible_target` (…, T) int say how many tokens of
    either kind the queries see.
    """
    keys = np.asarray(ranks)[..., None, :]
    mask: Any = (keys < np.asarray(visible_source)[..., None]) & (keys >= -np.asarray(visible_target)[..., None])
    return mask  # type: ignore[no-any-return]


def streaming_mask(num_source: int, visible_source: Sequence[int]) -> mx.array:
    """Return the mask when all source, then all target tokens are fed in one pass: (S + T, S + T) bool.

    `visible_source[i]` is the number of source tokens that had been read when target token i was fed (its query
    predicts token i + 1). Gives the logits of streamed reads and writes, and lets gradients through.
    """
    return mx.array(_streaming_mask(num_source, visible_source))


def _streaming_mask(num_source: int, visible_source: Sequence[int]) -> Bools:
    return CacheState().extend(GroupLayout(), num_source, len(visible_source), visible_source)[1].mask()


def create_streaming_attention_mask(
    total_len: int,
    source_seg_len: Sequence[int],
    target_seg_len: Sequence[int],
    wait_tokens_list: Sequence[int],
) -> mx.array:
    """Return the wait-k mask: (total_len, total_len) bool, True where the query may see the key. Public API.

    `source_seg_len` and `target_seg_len` hold tokens per word; `wait_tokens_list[t]` is the number of source tokens
    that target word t may see. Source is causal, target sees that much source and the target up to itself; source
    never sees target. `total_len` may exceed the two sums: what is left over is padding, which nobody sees and which
    sees itself. Raises ValueError where the lengths do not fit together.
    """
    num_source, num_target = sum(source_seg_len), sum(target_seg_len)
    if num_source + num_target > total_len:
        raise ValueError(f"total_len is {total_len}, but source and target have {num_source} + {num_target} tokens")
    if len(wait_tokens_list) != len(target_seg_len):
        raise ValueError(
            f"wait_tokens_list needs one number for each of the {len(target_seg_len)} target words, got "
            f"{len(wait_tokens_list)}"
        )
    per_token = [seen for seen, length in zip(wait_tokens_list, target_seg_len, strict=True) for _ in range(length)]
    mask = np.eye(total_len, dtype=bool)
    used = num_source + num_target
    mask[:used, :used] = _streaming_mask(num_source, per_token)
    return mx.array(mask)
