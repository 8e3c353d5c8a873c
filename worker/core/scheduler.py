"""One tick for all sessions: what each wants is packed into rows within a budget. Pure; the engine runs the plan."""

from collections.abc import Iterable, Mapping

import msgspec

from worker.core import segment as segments
from worker.core.ports import Lane, Row
from worker.core.state import State


class Budget(msgspec.Struct, frozen=True):
    """How much one tick may hold."""

    max_rows: int = 64  # sessions served in one tick; more wait for the next one
    max_source_tokens: int = (
        512  # source tokens of one row: a long text is read in chunks, so that others get their turn
    )
    min_source_tokens: int = 64  # source that no target word waits for is read in chunks of at least so many tokens


class Plan(msgspec.Struct, frozen=True):
    """Rows for one pass, the session that each belongs to, and the lanes that nobody needs any more."""

    rows: tuple[Row, ...] = ()
    sessions: tuple[str, ...] = ()
    dropped: tuple[Lane, ...] = ()


def plan(states: Mapping[str, State], budget: Budget, *, first: int = 0, dropped: Iterable[Lane] = ()) -> Plan:
    """What the sessions want, starting with the `first`-th of them: turns rotate where not all fit."""
    names = list(states)
    start = first % len(names) if names else 0
    rows: list[Row] = []
    sessions: list[str] = []
    for name in names[start:] + names[:start]:
        if len(rows) >= budget.max_rows:
            break
        wanted = wants(states[name], budget)
        if wanted is not None:
            rows.append(wanted)
            sessions.append(name)
    return Plan(tuple(rows), tuple(sessions), tuple(dropped))


def wants(state: State, budget: Budget) -> Row | None:
    """The row that a session's first unfinished segment asks for; None: it waits for words."""
    if not state.segments:
        return None
    return segments.row(state.segments[0], budget.max_source_tokens, budget.min_source_tokens)
