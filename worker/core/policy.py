"""When to write: how many source words a policy needs before a target word.

One rule, for the library and the service. A segment's source is `[prompt, word 1 … word N, end]`; the end marker is
read as segment N + 1. Decisions depend on the words alone, never on when they arrived.
"""

from collections.abc import Sequence
from math import floor

from protocol import Adaptive, AlignAtt, LocalAgreement, Session, WaitK


def wait_k_needed(wait_k: int, target_word_index: int, catchup: float = 0.0) -> int:
    """Source segments to read before target word `target_word_index` (from 0), with no end in sight (Ma et al. 2019).

    With `catchup` c, the target has 1 + c words for each source word (section 3.2 there).

    >>> [wait_k_needed(3, t) for t in range(3)]
    [3, 4, 5]
    >>> [wait_k_needed(3, t, catchup=0.5) for t in range(5)]
    [3, 4, 4, 5, 5]
    """
    return wait_k + target_word_index - floor(catchup * target_word_index)


def calculate_wait_words(source_seg_len: Sequence[int], target_word_idx: int, wait_k: int) -> int:
    """Source segments to read before target word `target_word_idx`: `min(k + t, len(source_seg_len) - 1)`.

    `source_seg_len` holds the number of tokens of the prompt, of each word and of the end.
    Raises ValueError for k < 1, t < 0 or no segments.

    >>> calculate_wait_words([9, 1, 2, 1, 1], target_word_idx=0, wait_k=2)
    2
    >>> calculate_wait_words([9, 1, 2, 1, 1], target_word_idx=7, wait_k=2)
    4
    """
    if wait_k < 1:
        raise ValueError(f"wait_k must be at least 1, got {wait_k}")
    if target_word_idx < 0:
        raise ValueError(f"target_word_idx counts from 0, got {target_word_idx}")
    if not source_seg_len:
        raise ValueError("source_seg_len is empty; expected [prompt, word 1 … word N, end]")
    return min(wait_k_needed(wait_k, target_word_idx), len(source_seg_len) - 1)


def needed(session: Session, target_word_index: int) -> int | None:
    """Source segments that the session's policy needs before that target word; None: the whole segment and its end."""
    if session.mode == "completion":
        return None
    match session.policy:
        case WaitK(k=k, catchup=catchup):
            return wait_k_needed(k, target_word_index, catchup)
        case Adaptive(min_k=k):
            return wait_k_needed(k, target_word_index)
        case LocalAgreement(k=k) | AlignAtt(k=k):  # from then on, one more whenever the model was not ready to write
            return k


def asks_probabilities(session: Session) -> bool:
    """Tell whether `is_sure` will be asked."""
    return isinstance(session.policy, Adaptive)


def asks_alignment(session: Session) -> bool:
    """Tell whether `is_settled` will be asked."""
    return isinstance(session.policy, AlignAtt)


def is_settled(session: Session, aligned_word: int, num_computed_source: int) -> bool:
    """Tell whether a token may be written that attends most to this source word of those read, counted from 1 (Papi et
    al. 2023, section 3): not to one of the newest, whose sense what follows may still change.
    """
    policy = session.policy
    return not isinstance(policy, AlignAtt) or aligned_word <= num_computed_source - policy.frame_words


def is_sure(session: Session, probability: float, lag: int, *, begins_word: bool) -> bool:
    """Tell whether a token of that `probability` may be written, its word `lag` source words behind what is read.

    The more has been read, the less sure the model must be: the threshold falls linearly, to 0 at `max_k` (as in
    Zheng et al. 2020, section 4). What follows a word's first token, be it a comma, tells of what comes behind it: it
    is judged like the next word, one lag less.
    """
    policy = session.policy
    if not isinstance(policy, Adaptive) or lag >= policy.max_k:
        return True
    part = (policy.max_k - lag + (not begins_word)) / max(1, policy.max_k - policy.min_k)
    return probability >= policy.threshold * part
