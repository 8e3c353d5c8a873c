"""Python as a worker sets it."""

import sys

from worker.app.serve import SWITCH_S, serving


def test_threads_take_turns_quickly_while_it_serves() -> None:
    """And as before in a process that goes on afterwards."""
    before_s = sys.getswitchinterval()
    with serving():
        assert sys.getswitchinterval() <= 2 * SWITCH_S < before_s
    assert sys.getswitchinterval() == before_s
