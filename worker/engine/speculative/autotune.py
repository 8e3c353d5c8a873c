"""Whether a drafter pays: passes with its drafts and passes without, by the tokens a second that each made lately.

What a draft costs depends on the machine, on both models and on the rows that share a pass. So nothing is assumed: the
way that was slower is tried again now and then, after pauses that double for as long as it is; and each time only until
the difference is more than chance, or has cost enough.
"""

from math import sqrt

import msgspec
from msgspec.structs import replace

_FIRST = 8  # passes before the first trial, and before a second look at a verdict that drafts pay
_FIRST_DRAFTED = 4  # the same where the first passes have drafts
_WAIT = 64  # passes of another number of rows, where drafts did not pay or it is not known yet
_TRIAL = 16  # passes at most
_CLEAR = 2.0  # standard deviations: a difference that ends a trial
_DEAR = 4.0  # such deviations of one pass: a loss that ends a trial
_SHORTEST_PAUSE, _LONGEST_PAUSE = 128, 1024  # passes between two trials
_KEPT = 0.95  # of what is known, with each pass: about 20 of them make a speed


class Speed(msgspec.Struct, frozen=True):
    """What passes of one kind have come to, older ones counting less."""

    passes: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0

    def after(self, num_tokens: int, pass_s: float) -> "Speed":
        """With one pass more."""
        return Speed(_KEPT * self.passes + 1, _KEPT * self.tokens + num_tokens, _KEPT * self.seconds + pass_s)

    def at_least(self, other: "Speed") -> bool:
        """Whether this is as fast as the other one, or faster. Two that have taken no time are."""
        return self.tokens * other.seconds >= other.tokens * self.seconds


class DraftAutotune(msgspec.Struct, frozen=True):
    """What is known of passes with about so many rows."""

    pays: bool = False
    is_trial: bool = False  # of the other way
    passes_left: int = _FIRST
    pause: int = _SHORTEST_PAUSE  # the next one
    is_known: bool = False  # a trial has ended
    with_drafts: Speed = Speed()
    without: Speed = Speed()

    @property
    def drafts(self) -> bool:
        """Whether the next pass has drafts."""
        return self.pays != self.is_trial


def initial(num_rows: int) -> DraftAutotune:
    """What to begin with where nothing is known: drafts are taken to pay one row, whose passes have time for them, and
    no others; both are soon put to the test.
    """
    return DraftAutotune(pays=True, passes_left=_FIRST_DRAFTED) if num_rows == 1 else DraftAutotune()


def from_neighbour(other: DraftAutotune, *, is_larger: bool) -> DraftAutotune:
    """What to begin with where something is known of another number of rows. Drafts that pay more rows pay fewer, and
    those that do not pay fewer do not pay more; that is put to the test later. Where they do not pay more rows, or
    nobody knows yet, they may, and are tried before long: not at once, so that a batch that drains does not start anew
    at each size it passes through.
    """
    if not other.is_known or (is_larger and not other.pays):
        return DraftAutotune(passes_left=_WAIT)
    if other.pays and not is_larger:
        return DraftAutotune()
    return DraftAutotune(pays=other.pays, passes_left=_SHORTEST_PAUSE)


def learn(payoff: DraftAutotune, num_tokens: int, pass_s: float) -> DraftAutotune:
    """What is known after a pass of `pass_s` seconds, drafting included, that went as `payoff.drafts` says.

    >>> payoff = DraftAutotune()
    >>> for _ in range(100):  # a draft saves a pass of eight, and makes all of them longer by a fifth
    ...     payoff = learn(payoff, *((8, 0.012) if payoff.drafts else (7, 0.010)))
    >>> payoff.drafts
    False
    """
    if payoff.drafts:
        payoff = replace(payoff, with_drafts=payoff.with_drafts.after(num_tokens, pass_s))
    else:
        payoff = replace(payoff, without=payoff.without.after(num_tokens, pass_s))
    payoff = replace(payoff, passes_left=payoff.passes_left - 1)
    return _tried(payoff) if payoff.is_trial else _paused(payoff)


def _paused(payoff: DraftAutotune) -> DraftAutotune:
    # A trial starts from nothing: what the way was like before, one hiccup of the machine included, is long ago.
    if payoff.passes_left > 0:
        return payoff
    payoff = replace(payoff, is_trial=True, passes_left=_TRIAL)
    return replace(payoff, without=Speed()) if payoff.pays else replace(payoff, with_drafts=Speed())


def _tried(payoff: DraftAutotune) -> DraftAutotune:
    usual, tried = payoff.with_drafts, payoff.without
    if not payoff.pays:
        usual, tried = tried, usual
    if payoff.passes_left > 0 and not _is_over(usual, tried):
        return payoff
    pays = payoff.with_drafts.at_least(payoff.without)
    tried_out = replace(payoff, pays=pays, is_trial=False, is_known=True)
    if pays and not payoff.pays:  # one hiccup of the passes without may have made them seem slow
        return replace(tried_out, passes_left=_FIRST, pause=_SHORTEST_PAUSE)
    pause = payoff.pause if pays == payoff.pays else _SHORTEST_PAUSE
    return replace(tried_out, passes_left=pause, pause=min(_LONGEST_PAUSE, 2 * pause))


def _is_over(usual: Speed, tried: Speed) -> bool:
    # How many tokens a number of drafts comes to has about the variance of a Poisson distribution.
    expected = max(0.0, tried.seconds * usual.tokens / usual.seconds) if usual.seconds else tried.tokens
    gained = tried.tokens - expected
    return gained**2 > _CLEAR**2 * expected or gained < -_DEAR * sqrt(max(0.0, usual.tokens / usual.passes))
