"""Python as a worker sets it."""

import sys

from worker.app.serve import SWITCH_S, model_facts, serving
from worker.engine.adapters.compatibility import Compatibility
from worker.engine.loading import model_path
from worker.engine.text.card import Card, read_card

SHARED = Compatibility(batches_rows=True, shows_attention=True)


def test_threads_take_turns_quickly_while_it_serves() -> None:
    """And as before in a process that goes on afterwards."""
    before_s = sys.getswitchinterval()
    with serving():
        assert sys.getswitchinterval() <= 2 * SWITCH_S < before_s
    assert sys.getswitchinterval() == before_s


def test_a_worker_says_what_is_known_of_its_model() -> None:
    """Layout, policy, and what was measured; or that nothing was, and how to."""
    shipped, stock = (model_facts(card, SHARED) for card in (read_card(model_path("starter")), Card()))
    assert (shipped["layout"], stock["layout"]) == ("group", "contiguous")
    assert "43.5 BLEU" in shipped["measured"]
    assert stock["measured"].startswith("nothing for this model; `decalage evaluate`")
    assert stock["policy"] == "wait-3"


def test_a_worker_says_why_a_model_runs_row_by_row() -> None:
    """And nothing of the kind where sessions share passes."""
    alone = Compatibility(batches_rows=False, shows_attention=False, reason="2 of its 4 layers are blind to rows")
    assert model_facts(Card(), alone) == {**model_facts(Card(), SHARED), "one_session_a_pass": alone.reason}
