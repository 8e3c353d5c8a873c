"""Attention masks that let one pass over a whole (source, target) pair see what streaming would have seen."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np


def streaming_mask(num_source: int, source_seen: Sequence[int]) -> mx.array:
    """Who sees whom when all source, then all target tokens are fed in one pass: (S + T, S + T) bool, true = sees.

    `source_seen[i]` is the number of source tokens that had been read when target token i was fed (its query predicts
    token i + 1). Gives the logits of streamed reads and writes, and lets gradients through.
    """
    num_target = len(source_seen)
    total = num_source + num_target
    order = np.arange(total)
    mask = order[None, :] <= order[:, None]
    if num_target:
        mask[num_source:, :num_source] = order[None, :num_source] < np.asarray(source_seen)[:, None]
    return mx.array(mask)


def create_streaming_attention_mask(
    total_len: int,
    source_seg_len: Sequence[int],
    target_seg_len: Sequence[int],
    wait_tokens_list: Sequence[int],
) -> mx.array:
    """The wait-k mask of the documents: (total_len, total_len) bool, true where a query sees a key.

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
    seen = np.repeat(np.asarray(wait_tokens_list, dtype=np.int64), np.asarray(target_seg_len, dtype=np.int64))
    mask = np.eye(total_len, dtype=bool)
    used = num_source + num_target
    mask[:used, :used] = np.array(streaming_mask(num_source, [int(n) for n in seen]))
    return mx.array(mask)
