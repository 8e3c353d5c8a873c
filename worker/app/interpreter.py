"""How Python itself is set in a process that serves."""

import gc
import sys

_SWITCH_S = 0.0005


def prepare() -> None:
    """Once all that stays is loaded: full collections no longer look through it, and threads take turns quickly.

    The engine's thread builds its graphs in Python, for milliseconds at a time. By default, a loop that Redis has woken
    would wait 5 ms for it.
    """
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)
