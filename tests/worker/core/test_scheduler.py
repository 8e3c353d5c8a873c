"""The scheduler: everybody gets a turn, and no row is larger than the budget."""

from hypothesis import given
from hypothesis import strategies as st

from protocol import InputTextAppend, Session, SessionCreate, WaitK
from tests.worker.core.drive import Driver
from tests.worker.fakes import FakeModel
from worker.core.scheduler import Budget, plan, wants


def busy(num_sessions: int, *, idle: frozenset[int] = frozenset()) -> Driver:
    names = [f"s{i}" for i in range(num_sessions)]
    driver = Driver(FakeModel(), names=names)
    for i, name in enumerate(names):
        driver.step(SessionCreate(session=Session(policy=WaitK(k=1))), name=name)
        if i not in idle:
            driver.step(InputTextAppend(text="one two three"), name=name)
    return driver


@given(
    num_sessions=st.integers(1, 12),
    max_rows=st.integers(1, 5),
    start=st.integers(0, 30),
    idle=st.frozensets(st.integers(0, 11), max_size=6),
)
def test_everybody_is_served_in_turn(num_sessions: int, max_rows: int, start: int, idle: frozenset[int]) -> None:
    """Whoever wants something has a row within ceil(n / max_rows) ticks, however often the others want more."""
    driver = busy(num_sessions, idle=idle)
    budget = Budget(max_rows=max_rows, min_source_tokens=1)
    served: set[str] = set()
    for i in range(-(-num_sessions // max_rows)):
        planned = plan(driver.states, budget, first=start + i * max_rows)
        assert len(planned.rows) <= max_rows
        assert len(set(planned.sessions)) == len(planned.sessions)
        served.update(planned.sessions)
    assert served == {name for name, state in driver.states.items() if wants(state, budget) is not None}


@given(max_source=st.integers(1, 20), min_source=st.integers(1, 100), num_words=st.integers(1, 12))
def test_a_long_text_is_read_in_chunks(max_source: int, min_source: int, num_words: int) -> None:
    """No row reads more than its budget, no tick is lost on nothing, and all of it is read before the first write."""
    driver = Driver(FakeModel(), budget=Budget(max_source_tokens=max_source, min_source_tokens=min_source))
    driver.step(SessionCreate(session=Session(policy=WaitK(k=num_words))))
    driver.step(InputTextAppend(text=" ".join(["word"] * num_words)))
    driver.run()
    assert all(len(row.source) <= max_source for row in driver.rows)
    num_tokens = 1 + 4 * num_words
    first_write = next(i for i, row in enumerate(driver.rows) if row.target)
    assert sum(len(row.source) for row in driver.rows[: first_write + 1]) == num_tokens
    assert first_write == -(-num_tokens // max_source) - 1


def test_source_that_nobody_waits_for_gathers() -> None:
    """Words that no target word needs yet are read once there are enough of them, not one by one."""
    driver = Driver(FakeModel(), budget=Budget(min_source_tokens=10))
    driver.step(SessionCreate(session=Session(policy=WaitK(k=50))))
    for _ in range(20):
        driver.step(InputTextAppend(text="abcd"))
        driver.tick()
    assert [len(row.source) for row in driver.rows] == [13] + [12] * 5


def test_nobody_is_planned_without_sessions() -> None:
    """An empty worker plans an empty tick and keeps the lanes to drop."""
    assert plan({}, Budget(), first=3, dropped=[(0, 0)]).dropped == ((0, 0),)
