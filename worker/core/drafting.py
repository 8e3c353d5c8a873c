"""Drafts beyond the token that ended a word: how many a session's row may carry, and guesses from its own text.

A draft never changes the output, so all of this is about speed: drafts that come true save passes, others make rows
longer for nothing. Whatever a row carries behind its own draft counts here; what ends a word is kept for free.
"""

import msgspec
from msgspec.structs import replace

from worker.core.ports import Row, Sampled
from worker.core.segment import Segment

_SHORTEST_PAUSE, _LONGEST_PAUSE = 8, 256
_WINDOW_TOKENS = 256


class Drafting(msgspec.Struct, frozen=True):
    """How long a session's drafts may be at present: longer by one after each that came true whole, shorter after
    others, down to none; then a single token is tried again, after pauses that double for as long as it fails.
    """

    length: int = 1
    pause: int = _SHORTEST_PAUSE  # rows without drafts before the next trial
    rested: int = 0  # of these, rows that have passed


def adapt(drafting: Drafting, num_proposed: int, num_kept: int, most: int) -> Drafting:
    """The lengths to come, after a row that could have had drafts: `num_kept` of those proposed came out as text.

    >>> adapt(Drafting(length=3), num_proposed=3, num_kept=3, most=8).length
    4
    >>> adapt(Drafting(length=3), num_proposed=3, num_kept=1, most=8).length
    2
    """
    if num_proposed and num_kept >= num_proposed:
        return Drafting(length=min(most, max(drafting.length, num_proposed + 1)))
    if num_proposed:
        length = (num_proposed + num_kept) // 2
        return replace(drafting, length=length, pause=drafting.pause if length else _longer(drafting.pause), rested=0)
    if drafting.length:  # nobody had a guess
        return drafting
    rested = drafting.rested + 1
    return replace(drafting, length=1, rested=0) if rested >= drafting.pause else replace(drafting, rested=rested)


def learn(drafting: Drafting, before: Segment, after: Segment, row: Row, sampled: Sampled) -> Drafting:
    """The lengths to come, after a pass that made one segment of another."""
    if not sampled.tokens:
        return drafting
    num_proposed = row.num_drafts - len(before.draft) + len(sampled.proposed)
    # One token, and those of the row's own draft, are there without any proposal; so is the end, which is no token.
    num_kept = _num_known(after) - _num_known(before) - 1 + after.is_finished
    return adapt(
        drafting, num_proposed, min(num_proposed, max(0, num_kept)), after.session.speculation.max_draft_tokens
    )


def _num_known(segment: Segment) -> int:
    return len(segment.target) + len(segment.tentative) + len(segment.draft)


def _longer(pause: int) -> int:
    return min(_LONGEST_PAUSE, 2 * pause)


def extended(row: Row, segment: Segment, most: int, *, has_drafter: bool) -> Row:
    """The row with up to `most` drafts from the session's own text, or with leave for a drafter to add as many."""
    speculation = segment.session.speculation
    room = segment.prompt.max_target_tokens - row.target_start - len(row.target) - 1
    num_tokens = min(most, speculation.max_draft_tokens, room)
    if not row.num_samples or not speculation.enabled or num_tokens < 1:
        return row
    if has_drafter:
        return replace(row, max_proposed=num_tokens)
    written = (segment.target + segment.tentative)[: row.target_start] + row.target
    ahead = look_ahead(written, segment.source, num_tokens)
    return replace(row, target=row.target + ahead, num_drafts=row.num_drafts + len(ahead))


def look_ahead(written: tuple[int, ...], source: tuple[int, ...], num_tokens: int) -> tuple[int, ...]:
    """What followed the last two tokens when they last stood together, in the target or else in the source.

    Names, numbers and whole phrases come again; no model is asked (prompt lookup decoding, Saxena 2023).

    >>> look_ahead((7, 8, 9, 5, 7, 8), (), num_tokens=2)
    (9, 5)
    >>> look_ahead((1, 40, 41), (40, 41, 42, 2), num_tokens=1)
    (42,)
    """
    for text in (written[-_WINDOW_TOKENS:], source[-_WINDOW_TOKENS:]):
        places = [i + 1 for i in range(len(text) - 2, 0, -1) if text[i - 1 : i + 1] == written[-2:]]
        if places:  # the last one that has enough behind it
            return max((text[place : place + num_tokens] for place in places), key=len)
    return ()
