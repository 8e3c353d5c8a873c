"""Whether a drafter pays: passes with its drafts and passes without, by the tokens a second that each made lately.

What a draft costs depends on the machine, on both models and on the rows that share a pass. So nothing is assumed: the
way that was slower is tried again now and then, after pauses that double for as long as it is.
"""

import msgspec
from msgspec.structs import replace

_TRIAL = 16  # passes, or as much time as so many of the other way take
_SHORTEST_PAUSE, _LONGEST_PAUSE = 64, 1024  # passes between two trials
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
    """What is known of passes with about so many rows. At first drafts are taken to pay, and soon put to the test."""

    pays: bool = True
    is_trial: bool = False  # of the other way
    passes_left: int = _TRIAL
    pause: int = _SHORTEST_PAUSE  # the next one
    trial_s: float = 0.0
    with_drafts: Speed = Speed()
    without: Speed = Speed()

    @property
    def drafts(self) -> bool:
        """Whether the next pass has drafts."""
        return self.pays != self.is_trial


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
    return _tried(payoff, pass_s) if payoff.is_trial else _paused(payoff)


def _paused(payoff: Payoff) -> Payoff:
    # A trial starts from nothing: what the way was like before, one hiccup of the machine included, is long ago.
    if payoff.passes_left > 0:
        return payoff
    payoff = replace(payoff, is_trial=True, passes_left=_TRIAL, trial_s=0.0)
    return replace(payoff, without=Speed()) if payoff.pays else replace(payoff, with_drafts=Speed())


def _tried(payoff: Payoff, pass_s: float) -> Payoff:
    usual = payoff.with_drafts if payoff.pays else payoff.without
    payoff = replace(payoff, trial_s=payoff.trial_s + pass_s)
    if payoff.passes_left > 0 and payoff.trial_s * usual.passes <= _TRIAL * usual.seconds:
        return payoff
    pays = payoff.with_drafts.at_least(payoff.without)
    pause = payoff.pause if pays == payoff.pays else _SHORTEST_PAUSE
    return replace(payoff, pays=pays, is_trial=False, passes_left=pause, pause=min(_LONGEST_PAUSE, 2 * pause))
