"""How long listeners waited, over several runs."""

from tests.chaos.takeovers import Waits, together


def test_waits_of_several_runs_count_together() -> None:
    """As one run's would, also where nobody waited."""
    alone = Waits(1, 1.0, 1.0, 1.0, (1.0,))
    others = Waits(2, 2.5, 2.99, 3.0, (3.0, 2.0))
    nobody = together([])
    assert (nobody.samples, nobody.p50_s, nobody.longest_s) == (0, None, None)
    all_of_them = together([alone, others, nobody])
    assert (all_of_them.samples, all_of_them.p50_s, all_of_them.p99_s, all_of_them.longest_s) == (3, 2.0, 2.98, 3.0)
    assert together([alone]) == alone
