"""The number of draft tokens that a session may add to a row, from its recent success rate; and prompt lookup.

Drafts change the speed, never the output: accepted drafts save passes, rejected ones only make rows longer. The token
that ended a word is a free draft, and is not counted here.
"""

from math import log

import msgspec
from msgspec.structs import replace

from worker.core.rows import Row, Tokens
from worker.core.segment import Segment, target_tokens

_SHORTEST_PAUSE, _LONGEST_PAUSE = 8, 256
_WINDOW_TOKENS = 256
_MEMORY = 10  # drafts that the rate is averaged over
# Cost of one more token, as a part of a pass: 0.13 on two cores with 494 M parameters, more in a small model.
_COST = 0.3
_LOWEST = 0.23  # the lowest rate from which a single success allows drafts again


class Drafting(msgspec.Struct, frozen=True):
    """The recent success of a session's drafts, which sets their length. While drafts fail, a single token is tried now
    and then, after pauses that double with each failure.

    The prior is half a success and half a failure (Jeffreys). So the first draft is one token, which decides between
    four and none.
    """

    rate: float = 0.5  # of drafted tokens that were accepted lately
    num_judged: int = 0
    pause: int = _SHORTEST_PAUSE  # rows without drafts before the next trial
    rested: int = 0  # rows of the pause that have passed

    @property
    def length(self) -> int:
        """The most tokens of the next draft: as many as are worth their cost. Token n saves a pass if all n are
        accepted.

        >>> [Drafting(rate=rate).length for rate in (0.9, 0.8, 0.6, 0.4, 0.2)]
        [11, 5, 2, 1, 0]
        """
        return int(log(_COST) / log(min(self.rate, 0.99))) or int(self.rested >= self.pause)


def adapt(drafting: Drafting, num_proposed: int, num_kept: int) -> Drafting:
    """Return the drafting after a row that could have had drafts: `num_kept` of those proposed were accepted.

    >>> [adapt(Drafting(), num_proposed=1, num_kept=n).length for n in (1, 0)]
    [4, 0]
    """
    if not num_proposed:  # there was no guess, or a pause
        return drafting if drafting.length else replace(drafting, rested=drafting.rested + 1)
    rate, num_judged = drafting.rate, drafting.num_judged
    for is_accepted in [1] * num_kept + [0] * (num_kept < num_proposed):  # drafts behind a rejected one do not count
        num_judged += 1
        rate += (is_accepted - rate) / min(_MEMORY, num_judged + 1)
    pause = min(_LONGEST_PAUSE, 2 * drafting.pause) if drafting.rested else drafting.pause
    return Drafting(max(_LOWEST, rate), num_judged, _SHORTEST_PAUSE if num_kept else pause)


def learn(drafting: Drafting, before: Segment, after: Segment, row: Row, output: Tokens) -> Drafting:
    """Return the drafting after a pass over `row` that turned the segment `before` into `after`."""
    if not output.tokens:
        return drafting
    num_proposed = row.num_drafts - len(before.decode.draft) + len(output.proposed)
    # One token, and those of the row's own draft, come without any proposal; so does the end, which is no token.
    num_kept = _num_known(after) - _num_known(before) - 1 + after.is_finished
    return adapt(drafting, num_proposed, min(num_proposed, max(0, num_kept)))


def _num_known(segment: Segment) -> int:
    return segment.num_target + len(segment.decode.tentative) + len(segment.decode.draft)


def extended(row: Row, segment: Segment, most: int, *, has_drafter: bool) -> Row:
    """Return the row with up to `most` drafts from the session's own text, or with `max_proposed` set, so that a
    drafter may add them.
    """
    speculation = segment.session.speculation
    room = segment.max_target_tokens - row.target_start - len(row.target) - 1
    num_tokens = min(most, speculation.max_draft_tokens, room)
    if not row.num_samples or not speculation.enabled or num_tokens < 1:
        return row
    if has_drafter:
        return replace(row, max_proposed=num_tokens)
    start = max(0, row.target_start - _WINDOW_TOKENS)
    written = target_tokens(segment, start)[: row.target_start - start] + row.target
    ahead = prompt_lookup(written, segment.source.tokens[-_WINDOW_TOKENS:], num_tokens)
    return replace(row, target=row.target + ahead, num_drafts=row.num_drafts + len(ahead))


def prompt_lookup(written: tuple[int, ...], source: tuple[int, ...], num_tokens: int) -> tuple[int, ...]:
    """Return the tokens behind the latest earlier occurrence of the last two tokens, in the target or else the source.

    Names, numbers and whole phrases repeat; no model is needed (prompt lookup decoding, Saxena 2023).

    >>> prompt_lookup((7, 8, 9, 5, 7, 8), (), num_tokens=2)
    (9, 5)
    >>> prompt_lookup((1, 40, 41), (40, 41, 42, 2), num_tokens=1)
    (42,)
    """
    for text in (written[-_WINDOW_TOKENS:], source[-_WINDOW_TOKENS:]):
        places = [i + 1 for i in range(len(text) - 2, 0, -1) if text[i - 1 : i + 1] == written[-2:]]
        if places:  # the latest one with enough tokens behind it
            return max((text[place : place + num_tokens] for place in places), key=len)
    return ()
