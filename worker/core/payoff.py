"""Whether a drafter pays: passes with its drafts and passes without, by the tokens a second that each made lately.

What a draft costs depends on the machine, on both models and on the rows that share a pass. So nothing is assumed: the
way that was slower is tried again now and then, after pauses that double for as long as it is; and each time only until
the difference is more than chance, or has cost enough.
"""

from math import sqrt

import msgspec
from msgspec.structs import replace

_FIRST = 8  # passes before the first trial
_WAIT = 32  # passes, while another number of rows finds out
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


class Payoff(msgspec.Struct, frozen=True):
    """What is known of passes with about so many rows."""

    pays: bool = True
    is_trial: bool = False  # of the other way
    passes_left: int = _FIRST
    pause: int = _SHORTEST_PAUSE  # the next one
    with_drafts: Speed = Speed()
    without: Speed = Speed()

    @property
    def drafts(self) -> bool:
        """Whether the next pass has drafts."""
        return self.pays != self.is_trial

    @property
    def is_known(self) -> bool:
        """Whether a trial has ended."""
        return self.pause > _SHORTEST_PAUSE


def first(num_rows: int) -> Payoff:
    """What to begin with where nothing is known: drafts are taken to pay one row, whose passes have time for them, and
    no others; both is soon put to the test.
    """
    return Payoff(pays=num_rows == 1)


def like(neighbour: Payoff) -> Payoff:
    """What to begin with where something is known of another number of rows: what holds there, to be tested later. As
    long as that is not found out, no drafts, so that a batch that drains does not start anew at each size.
    """
    if neighbour.is_known:
        return Payoff(pays=neighbour.pays, passes_left=_SHORTEST_PAUSE)
    return Payoff(pays=False, passes_left=_WAIT)


def learn(payoff: Payoff, num_tokens: int, pass_s: float) -> Payoff:
    """What is known after a pass of `pass_s` seconds, drafting included, that went as `payoff.drafts` says.

    >>> payoff = Payoff()
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


def _paused(payoff: Payoff) -> Payoff:
    # A trial starts from nothing: what the way was like before, one hiccup of the machine included, is long ago.
    if payoff.passes_left > 0:
        return payoff
    payoff = replace(payoff, is_trial=True, passes_left=_TRIAL)
    return replace(payoff, without=Speed()) if payoff.pays else replace(payoff, with_drafts=Speed())


def _tried(payoff: Payoff) -> Payoff:
    usual, tried = payoff.with_drafts, payoff.without
    if not payoff.pays:
        usual, tried = tried, usual
    if payoff.passes_left > 0 and not _is_over(usual, tried):
        return payoff
    pays = payoff.with_drafts.at_least(payoff.without)
    pause = payoff.pause if pays == payoff.pays else _SHORTEST_PAUSE
    return replace(payoff, pays=pays, is_trial=False, passes_left=pause, pause=min(_LONGEST_PAUSE, 2 * pause))


def _is_over(usual: Speed, tried: Speed) -> bool:
    # How many tokens a number of drafts comes to has about the variance of a Poisson distribution.
    expected = max(0.0, tried.seconds * usual.tokens / usual.seconds) if usual.seconds else tried.tokens
    gained = tried.tokens - expected
    return gained**2 > _CLEAR**2 * expected or gained < -_DEAR * sqrt(max(0.0, usual.tokens / usual.passes))
