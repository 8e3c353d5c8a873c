"""Whether a drafter pays: passes with its drafts and passes without, by the tokens a second that each made lately.

What a draft costs depends on the machine, on both models and on the rows that share a pass. So nothing is assumed: the
way that was slower is tried again now and then, after pauses that double for as long as it is.
"""

import msgspec
from msgspec.structs import replace

_TRIAL = 16  # passes of a trial that count
_SHORTEST_PAUSE, _LONGEST_PAUSE = 64, 1024  # passes between two trials
_KEPT = 0.95  # of what is known, with each pass: about 20 of them make a speed


class Speed(msgspec.Struct, frozen=True):
    """What passes of one kind have come to, older ones counting less."""

    tokens: float = 0.0
    seconds: float = 0.0

    def after(self, num_tokens: int, pass_s: float) -> "Speed":
        """With one pass more."""
        return Speed(_KEPT * self.tokens + num_tokens, _KEPT * self.seconds + pass_s)

    def at_least(self, other: "Speed") -> bool:
        """Whether this is as fast as the other one, or faster. Two that have taken no time are."""
        return self.tokens * other.seconds >= other.tokens * self.seconds


class Payoff(msgspec.Struct, frozen=True):
    """What is known of passes with about so many rows. At first drafts are taken to pay, and soon put to the test."""

    pays: bool = True
    is_trial: bool = False  # of the other way
    passes_left: int = _TRIAL
    pause: int = _SHORTEST_PAUSE
    is_first: bool = True  # of its trial or pause: the drafter catches up with what it has missed, so it does not count
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
    if payoff.is_first:
        return replace(payoff, is_first=False)
    if payoff.drafts:
        payoff = replace(payoff, with_drafts=payoff.with_drafts.after(num_tokens, pass_s))
    else:
        payoff = replace(payoff, without=payoff.without.after(num_tokens, pass_s))
    if payoff.passes_left > 1:
        return replace(payoff, passes_left=payoff.passes_left - 1)
    if not payoff.is_trial:
        return replace(payoff, is_trial=True, passes_left=_TRIAL, is_first=True)
    pays = payoff.with_drafts.at_least(payoff.without)
    is_new, is_same_way = pays != payoff.pays, pays == payoff.drafts
    pause = _SHORTEST_PAUSE if is_new else payoff.pause
    longer = min(_LONGEST_PAUSE, 2 * pause)
    return replace(payoff, pays=pays, is_trial=False, passes_left=pause, pause=longer, is_first=not is_same_way)
