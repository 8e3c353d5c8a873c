"""How Python itself is set in a process that serves."""

import contextlib
import gc
import sys
from collections.abc import Iterator

SWITCH_S = 0.0005


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Once all that stays is loaded: full collections no longer look through it, and threads take turns quickly.

    The engine's thread builds its graphs in Python, for milliseconds at a time. By default, a loop that Redis has woken
    would wait 5 ms for it.
    """
    before_s = sys.getswitchinterval()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)
