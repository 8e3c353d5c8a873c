"""Drafts are made where they pay, by the passes' own times; to find out costs little, however wrong the first guess."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from worker.engine.speculative.autotune import DraftAutotune, Speed, from_neighbour, initial, learn

Pass = tuple[int, float]  # tokens, seconds


def drive(
    costs: Callable[[int, bool], Pass], num_passes: int, tuning: DraftAutotune | None = None
) -> list[tuple[bool, Pass]]:
    """For each pass whether it had drafts, and what came of it; `costs` tells what number n makes either way."""
    tuning, done = tuning or initial(1), []
    for n in range(num_passes):
        done.append((tuning.drafts, costs(n, tuning.drafts)))
        tuning = learn(tuning, *done[-1][1])
    return done


def speed(passes: list[Pass]) -> float:
    """Tokens a second."""
    return sum(tokens for tokens, _ in passes) / sum(seconds for _, seconds in passes)


@given(gain=st.floats(1, 4), cost=st.floats(1, 4))
def test_it_is_nearly_as_fast_as_the_better_way(gain: float, cost: float) -> None:
    """Law: drafts add tokens by one factor and seconds by another; over 5,000 passes, not knowing which is greater
    costs less than 3 % where the two ways differ by at most a third, and never more than 6 %.
    """

    def costs(_: int, drafts: bool) -> Pass:
        return (round(1000 * gain), 0.01 * cost) if drafts else (1000, 0.01)

    done = drive(costs, 5000)
    best = max(speed([costs(0, True)]), speed([costs(0, False)]))
    ratio = speed([made for _, made in done]) / best
    assert ratio > (0.97 if 3 / 4 < gain / cost < 4 / 3 else 0.94)
    assert sum(drafts == (gain >= cost) for drafts, _ in done) > 4500 or abs(gain / cost - 1) < 1e-3


def test_it_notices_a_change() -> None:
    """Drafts that come to pay are made before long, and given up again where they cease to."""
    worth = [(7, 0.012), (16, 0.012), (7, 0.012)]
    done = drive(lambda n, drafts: worth[n // 4000] if drafts else (8, 0.010), 12_000)
    shares = [sum(drafts for drafts, _ in done[start : start + 1000]) / 1000 for start in (3000, 7000, 11_000)]
    assert shares[0] < 0.1
    assert shares[1] > 0.9
    assert shares[2] < 0.1


def test_dear_drafts_cost_little_to_try() -> None:
    """Drafts that make a pass six times as long for nothing are then given up after one pass, and seldom tried."""
    done = drive(lambda _, drafts: (8, 0.06 if drafts else 0.01), 20_000)
    assert [n for n, (drafts, _) in enumerate(done[:600]) if drafts] == [*range(4), 133, 390]
    assert 0.99 < speed([made for _, made in done]) / 800 < 1


@given(ratio=st.floats(0.6, 1), batch=st.tuples(st.integers(8, 64), st.integers(1, 6)))
def test_a_short_run_loses_little(ratio: float, batch: tuple[int, int]) -> None:
    """Law: over the first 250 passes, drafts that do not pay cost less than 3 % in batches of eight and more; alone,
    where chance is stronger, those that make two tokens a pass cost less than 4 %.
    """

    def run(rows: int, made: int) -> float:
        done = drive(lambda _, drafts: (rows * made, made / ratio) if drafts else (rows, 1), 250, initial(rows))
        return speed([pass_ for _, pass_ in done]) / rows

    assert run(*batch) > 0.97
    assert run(1, 2) > 0.96


def test_what_is_clear_is_soon_found_out() -> None:
    """With more rows, chance is less: fewer passes tell. Two tokens for a draft, in 2.4 times as long."""

    def trial(rows: int) -> int:
        done = drive(lambda _, drafts: (2 * rows, 0.024) if drafts else (rows, 0.01), 100, DraftAutotune(pays=False))
        return sum(drafts for drafts, _ in done)

    assert (trial(1), trial(4), trial(16)) == (14, 6, 3)


def test_another_number_of_rows_begins_with_what_is_known() -> None:
    """Drafts that pay eight rows pay four, those that do not pay four do not pay eight; the rest is to be found out."""
    pays = DraftAutotune(pays=True, is_known=True, is_trial=True, pause=1024, with_drafts=Speed(9, 9, 9))
    does_not, unknown = replace(pays, pays=False), replace(pays, is_known=False)
    assert from_neighbour(pays, is_larger=True) == DraftAutotune(pays=True, passes_left=128)
    assert from_neighbour(does_not, is_larger=False) == DraftAutotune(pays=False, passes_left=128)
    assert from_neighbour(pays, is_larger=False) == DraftAutotune(pays=False, passes_left=8)
    assert (
        from_neighbour(does_not, is_larger=True)
        == from_neighbour(unknown, is_larger=True)
        == DraftAutotune(pays=False, passes_left=64)
    )


def test_a_hiccup_is_forgotten_by_the_next_trial() -> None:
    """A pass of drafts that pay takes a hundred times as long, once: after the next trial they are made again."""
    done = drive(lambda n, drafts: (13 if drafts else 10, 1.0 if n == 2 else 0.01), 500)
    assert not any(drafts for drafts, _ in done[10:130])
    assert sum(drafts for drafts, _ in done[180:]) > 300


def test_what_a_hiccup_made_seem_to_pay_is_looked_at_again() -> None:
    """One of the passes without drafts takes ten times as long: these are taken to be slow for a few passes only."""
    done = drive(lambda n, drafts: (16, 0.025) if drafts else (8, 0.1 if n == 5 else 0.01), 200, DraftAutotune())
    assert any(drafts for drafts, _ in done[9:])
    assert sum(drafts for drafts, _ in done) < 40


def test_a_verdict_that_is_new_is_soon_put_to_the_test() -> None:
    """However long the pauses had become."""
    last = DraftAutotune(
        pays=True,
        is_trial=True,
        passes_left=1,
        pause=1024,
        with_drafts=Speed(10, 70, 0.1),
        without=Speed(9, 90, 0.09),
    )
    assert (learn(last, 10, 0.01).drafts, learn(last, 10, 0.01).passes_left) == (False, 128)
    assert (learn(last, -99, 0.01).drafts, learn(last, -99, 0.01).passes_left) == (True, 1024)


def test_a_clock_that_stands_tells_nothing() -> None:
    """Then drafts pay, but for the trials."""
    done = drive(lambda *_: (1, 0.0), 2000)
    assert sum(drafts for drafts, _ in done) > 1800
    assert Speed().at_least(Speed())
