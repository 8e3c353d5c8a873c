"""Python as a worker sets it."""

import sys

from worker.app.serve import SWITCH_S, model_facts, serving
from worker.engine.loading import model_path
from worker.engine.text.card import Card, read_card


def test_threads_take_turns_quickly_while_it_serves() -> None:
    """And as before in a process that goes on afterwards."""
    before_s = sys.getswitchinterval()
    with serving():
        assert sys.getswitchinterval() <= 2 * SWITCH_S < before_s
    assert sys.getswitchinterval() == before_s


def test_a_worker_says_what_is_known_of_its_model() -> None:
    """Layout, policy, and what was measured; or that nothing was, and how to."""
    shipped, stock = model_facts(read_card(model_path("starter"))), model_facts(Card())
    assert (shipped["layout"], stock["layout"]) == ("group", "contiguous")
    assert "42.0 BLEU" in shipped["measured"]
    assert stock["measured"].startswith("nothing for this model; `decalage evaluate`")
    assert stock["policy"] == "wait-3"
