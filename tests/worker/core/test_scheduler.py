"""The scheduler: who has waited longest comes first, and no row is larger than the budget."""

from hypothesis import given
from hypothesis import strategies as st

from protocol import InputTextAppend, Session, SessionCreate, WaitK
from tests.worker.core.drive import Driver
from tests.worker.fakes import LATIN, FakeModel
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
    idle=st.frozensets(st.integers(0, 11), max_size=6),
    tick_ms=st.integers(1, 50),
)
def test_everybody_is_served_in_turn(num_sessions: int, max_rows: int, idle: frozenset[int], tick_ms: int) -> None:
    """Whoever wants something has a row within ceil(n / max_rows) ticks, however often the others want more."""
    driver = busy(num_sessions, idle=idle)
    driver.sessions.budget = Budget(max_rows=max_rows, min_source_tokens=1)
    wanting = {name for name, state in driver.states.items() if wants(state, driver.sessions.budget) is not None}
    served: set[str] = set()
    for _ in range(-(-num_sessions // max_rows)):
        driver.now_ms += tick_ms
        planned = driver.plan()
        assert len(planned.rows) <= max_rows
        assert len(set(planned.sessions)) == len(planned.sessions)
        served.update(planned.sessions)
        driver.update(planned)
    assert served == wanting


def test_a_long_backlog_starves_nobody() -> None:
    """Two sessions with thousands of old words and one row a tick: a single fresh word waits for one pass of each."""
    driver = Driver(FakeModel(eos=0.0), names=["old", "older", "fresh"], budget=Budget(max_rows=1, min_source_tokens=1))
    for name in driver.states:
        driver.step(SessionCreate(session=Session(policy=WaitK(k=1))), name=name)
    for name in ("old", "older"):
        driver.step(InputTextAppend(text=" ".join(["w"] * 3000)), name=name)
    for _ in range(20):
        driver.now_ms += 10
        driver.tick()
    driver.step(InputTextAppend(text="Hello"), name="fresh")
    order: list[str] = []
    for _ in range(3):
        driver.now_ms += 10
        planned = driver.plan()
        order += planned.sessions
        driver.update(planned)
    assert sorted(order) == ["fresh", "old", "older"]


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


@given(
    num_readers=st.integers(1, 10),
    max_source=st.integers(8, 40),
    max_pass=st.integers(8, 100),
    tick_ms=st.integers(1, 50),
)
def test_long_reads_delay_others_by_a_bound(num_readers: int, max_source: int, max_pass: int, tick_ms: int) -> None:
    """However long the texts that others have just sent: no pass holds more than its budget, and a word waits for no
    more passes than it takes to give each of the others one chunk.
    """
    names = [f"s{i}" for i in range(num_readers)] + ["fresh"]
    budget = Budget(max_source_tokens=max_source, max_pass_tokens=max_pass, min_source_tokens=1)
    driver = Driver(FakeModel(tokens=LATIN, eos=0.0), names=names, budget=budget)
    for name in names:
        driver.step(SessionCreate(session=Session(policy=WaitK(k=1))), name=name)
        driver.now_ms += 1
        driver.step(InputTextAppend(text="w" if name == "fresh" else "word" * 300), name=name)
    chunk = min(max_source, max_pass)
    served: list[str] = []
    num_ticks = 0
    while "fresh" not in served:
        num_ticks += 1
        driver.now_ms += tick_ms
        planned = driver.plan()
        driver.update(planned)
        assert sum(len(row.source) + len(row.target) for row in planned.rows) <= max_pass
        served += planned.sessions
    assert num_ticks <= -(-num_readers // (max_pass // chunk)) + 1


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
    assert plan({}, Budget(), dropped=[(0, 0)]).dropped == ((0, 0),)
