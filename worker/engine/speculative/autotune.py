"""Decide whether drafts pay, for one batch size, by the recent tokens a second of passes with and without drafts.

`speculative/runner.py` keeps a record per power of two.

The cost of a draft depends on the machine, on both models and on the rows that share a pass, so it is measured. The
slower kind of pass is tried again now and then, after pauses that double while it stays slower. A trial ends once the
difference is more than chance, or has cost enough.
"""

from math import sqrt

import msgspec
from msgspec.structs import replace

_FIRST_PASSES = 8  # passes before the first trial, and before a second look at a verdict that drafts pay
_FIRST_PASSES_DRAFTED = 4  # the same if the first passes have drafts
_NEIGHBOUR_PASSES = 64  # passes of another number of rows, where drafts did not pay or it is not known yet
_TRIAL_PASSES = 16  # passes at most
_CLEAR_DEVIATIONS = 2.0  # standard deviations: a difference that ends a trial
_COSTLY_DEVIATIONS = 4.0  # such deviations of one pass: a loss that ends a trial
_SHORTEST_PAUSE, _LONGEST_PAUSE = 128, 1024  # passes between two trials
_DECAY = 0.95  # weight of earlier passes, with each pass: a speed covers about 20


class Speed(msgspec.Struct, frozen=True):
    """The speed of passes with or without drafts, older ones weighted less."""

    passes: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0

    def after(self, num_tokens: int, pass_s: float) -> "Speed":
        """Return the speed with one more pass."""
        return Speed(_DECAY * self.passes + 1, _DECAY * self.tokens + num_tokens, _DECAY * self.seconds + pass_s)

    def at_least(self, other: "Speed") -> bool:
        """Tell whether this is at least as fast as the other one; two that took no time are equal."""
        return self.tokens * other.seconds >= other.tokens * self.seconds


class DraftAutotune(msgspec.Struct, frozen=True):
    """The measurements of passes with a similar number of rows."""

    pays: bool = False
    is_trial: bool = False  # the current passes test the opposite of `pays`
    passes_left: int = _FIRST_PASSES
    pause: int = _SHORTEST_PAUSE  # the next one
    is_known: bool = False  # a trial has ended
    with_drafts: Speed = Speed()
    without: Speed = Speed()

    @property
    def drafts(self) -> bool:
        """Whether the next pass has drafts."""
        return self.pays != self.is_trial


def initial(num_rows: int) -> DraftAutotune:
    """Return the initial tuning: assume that drafts pay for a single row, whose passes have time for them, and for no
    more; both are tested soon.
    """
    return DraftAutotune(pays=True, passes_left=_FIRST_PASSES_DRAFTED) if num_rows == 1 else DraftAutotune()


def from_neighbour(other: DraftAutotune, *, is_larger: bool) -> DraftAutotune:
    """Return the initial tuning, guessed from a neighbouring batch size.

    Drafts that pay for more rows pay for fewer, and drafts that do not pay for fewer rows do not pay for more: both are
    tested later. If they do not pay for more rows, or no trial has ended yet, they may pay and are tried soon: not at
    once, so that a draining batch does not start anew at each size that it passes through.
    """
    if not other.is_known or (is_larger and not other.pays):
        return DraftAutotune(passes_left=_NEIGHBOUR_PASSES)
    if other.pays and not is_larger:
        return DraftAutotune()
    return DraftAutotune(pays=other.pays, passes_left=_SHORTEST_PAUSE)


def learn(tuning: DraftAutotune, num_tokens: int, pass_s: float) -> DraftAutotune:
    """Return the measurements after a pass of `pass_s` seconds, drafting included, that went as `tuning.drafts` says.

    >>> tuning = DraftAutotune()
    >>> for _ in range(100):  # a draft saves a pass of eight, and makes all of them longer by a fifth
    ...     tuning = learn(tuning, *((8, 0.012) if tuning.drafts else (7, 0.010)))
    >>> tuning.drafts
    False
    """
    if tuning.drafts:
        tuning = replace(tuning, with_drafts=tuning.with_drafts.after(num_tokens, pass_s))
    else:
        tuning = replace(tuning, without=tuning.without.after(num_tokens, pass_s))
    tuning = replace(tuning, passes_left=tuning.passes_left - 1)
    return _after_trial_pass(tuning) if tuning.is_trial else _after_usual_pass(tuning)


def _after_usual_pass(tuning: DraftAutotune) -> DraftAutotune:
    # A trial starts from nothing: earlier passes of its kind, with any hiccup of the machine, are long ago.
    if tuning.passes_left > 0:
        return tuning
    tuning = replace(tuning, is_trial=True, passes_left=_TRIAL_PASSES)
    return replace(tuning, without=Speed()) if tuning.pays else replace(tuning, with_drafts=Speed())


def _after_trial_pass(tuning: DraftAutotune) -> DraftAutotune:
    usual, tried = tuning.with_drafts, tuning.without
    if not tuning.pays:
        usual, tried = tried, usual
    if tuning.passes_left > 0 and not _is_over(usual, tried):
        return tuning
    pays = tuning.with_drafts.at_least(tuning.without)
    decided = replace(tuning, pays=pays, is_trial=False, is_known=True)
    if pays and not tuning.pays:  # a hiccup of the machine may have slowed the passes without drafts
        return replace(decided, passes_left=_FIRST_PASSES, pause=_SHORTEST_PAUSE)
    pause = tuning.pause if pays == tuning.pays else _SHORTEST_PAUSE
    return replace(decided, passes_left=pause, pause=min(_LONGEST_PAUSE, 2 * pause))


def _is_over(usual: Speed, tried: Speed) -> bool:
    # The number of tokens has about the variance of a Poisson distribution.
    expected = max(0.0, tried.seconds * usual.tokens / usual.seconds) if usual.seconds else tried.tokens
    gained = tried.tokens - expected
    is_clear = gained**2 > _CLEAR_DEVIATIONS**2 * expected
    return is_clear or gained < -_COSTLY_DEVIATIONS * sqrt(max(0.0, usual.tokens / usual.passes))
