"""How many draft tokens a session may add to a row, from its recent success rate, and guesses by prompt lookup.

Drafts change the speed, never the output: drafts that come true save passes, others make rows longer for nothing. The
token that ended a word is a free draft, and is not counted here.
"""

from math import log

import msgspec
from msgspec.structs import replace

from worker.core.rows import Row, Tokens
from worker.core.segment import Segment, target_tokens

_SHORTEST_PAUSE, _LONGEST_PAUSE = 8, 256
_WINDOW_TOKENS = 256
_MEMORY = 10  # drafts that the rate is made of
# What one more token costs, as a part of a pass: on two cores 0.13 of one over 494 M parameters, more in a small model.
_COST = 0.3
_LOWEST = 0.23  # a rate from which one success leads back


class Drafting(msgspec.Struct, frozen=True):
    """How well a session's drafts do at present, and so how long they may be; where they fail, a single one is tried
    now and then, after pauses that double for as long as it fails.

    Nothing is known at first: that counts as half a success and half a failure (Jeffreys' prior). So the first draft is
    one token, which decides between four and none.
    """

    rate: float = 0.5  # of drafted tokens that came true lately
    num_judged: int = 0
    pause: int = _SHORTEST_PAUSE  # rows without drafts before the next trial
    rested: int = 0  # of these, rows that have passed

    @property
    def length(self) -> int:
        """Tokens of the next draft, at most: as many as are worth their cost; number n saves a pass where all n come
        true.

        >>> [Drafting(rate=rate).length for rate in (0.9, 0.8, 0.6, 0.4, 0.2)]
        [11, 5, 2, 1, 0]
        """
        return int(log(_COST) / log(min(self.rate, 0.99))) or int(self.rested >= self.pause)


def adapt(drafting: Drafting, num_proposed: int, num_kept: int) -> Drafting:
    """Return what is known after a row that could have had drafts: `num_kept` of those proposed came out as text.

    >>> [adapt(Drafting(), num_proposed=1, num_kept=n).length for n in (1, 0)]
    [4, 0]
    """
    if not num_proposed:  # nobody had a guess, or there was a pause
        return drafting if drafting.length else replace(drafting, rested=drafting.rested + 1)
    rate, num_judged = drafting.rate, drafting.num_judged
    for came_true in [1] * num_kept + [0] * (num_kept < num_proposed):  # behind a failure, nothing is known
        num_judged += 1
        rate += (came_true - rate) / min(_MEMORY, num_judged + 1)
    pause = min(_LONGEST_PAUSE, 2 * drafting.pause) if drafting.rested else drafting.pause
    return Drafting(max(_LOWEST, rate), num_judged, _SHORTEST_PAUSE if num_kept else pause)


def learn(drafting: Drafting, before: Segment, after: Segment, row: Row, output: Tokens) -> Drafting:
    """Return what is known after a pass that made one segment of another."""
    if not output.tokens:
        return drafting
    num_proposed = row.num_drafts - len(before.decode.draft) + len(output.proposed)
    # One token, and those of the row's own draft, are there without any proposal; so is the end, which is no token.
    num_kept = _num_known(after) - _num_known(before) - 1 + after.is_finished
    return adapt(drafting, num_proposed, min(num_proposed, max(0, num_kept)))


def _num_known(segment: Segment) -> int:
    return segment.num_target + len(segment.decode.tentative) + len(segment.decode.draft)


def extended(row: Row, segment: Segment, most: int, *, has_drafter: bool) -> Row:
    """Return the row with up to `most` drafts from the session's own text, or leave for a drafter to add as many."""
    speculation = segment.session.speculation
    room = segment.prompt.max_target_tokens - row.target_start - len(row.target) - 1
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
    """Return what followed the last two tokens when they last stood together, in the target or else in the source.

    Names, numbers and whole phrases come again; no model is asked (prompt lookup decoding, Saxena 2023).

    >>> prompt_lookup((7, 8, 9, 5, 7, 8), (), num_tokens=2)
    (9, 5)
    >>> prompt_lookup((1, 40, 41), (40, 41, 42, 2), num_tokens=1)
    (42,)
    """
    for text in (written[-_WINDOW_TOKENS:], source[-_WINDOW_TOKENS:]):
        places = [i + 1 for i in range(len(text) - 2, 0, -1) if text[i - 1 : i + 1] == written[-2:]]
        if places:  # the last one that has enough behind it
            return max((text[place : place + num_tokens] for place in places), key=len)
    return ()
