"""One tick for all sessions: what each wants is packed into rows within a budget. Pure; the engine runs the plan."""

from collections.abc import Iterable, Mapping

import msgspec

from worker.core import segment as segments
from worker.core.ports import Lane, Row
from worker.core.state import State


class Budget(msgspec.Struct, frozen=True):
    """How much one tick may hold."""

    max_rows: int = 64  # sessions served in one tick; the others wait for the next one
    max_source_tokens: int = (
        512  # source tokens of one row: a long text is read in chunks, so that others get their turn
    )
    min_source_tokens: int = 64  # source that no target word waits for is read in chunks of at least so many tokens


class Plan(msgspec.Struct, frozen=True):
    """Rows for one pass, the session that each belongs to, and the lanes that nobody needs any more."""

    rows: tuple[Row, ...] = ()
    sessions: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()  # sessions that want a row, too, and have to wait for the next tick
    dropped: tuple[Lane, ...] = ()


def plan(states: Mapping[str, State], budget: Budget, *, dropped: Iterable[Lane] = ()) -> Plan:
    """What the sessions want; where not all fit, those that have waited longest.

    A session waits since its oldest unread word arrived, or since it was served last: so one with a long backlog has
    its turn no more often than one whose only word has just come.
    """
    wanted = [(waiting_ms(state), i, name, row) for i, (name, state) in enumerate(states.items())
              if (row := wants(state, budget)) is not None]  # fmt: skip
    wanted.sort(key=lambda one: one[:2])
    chosen, others = wanted[: budget.max_rows], wanted[budget.max_rows :]
    return Plan(
        rows=tuple(row for *_, row in chosen),
        sessions=tuple(name for *_, name, _ in chosen),
        deferred=tuple(name for *_, name, _ in others),
        dropped=tuple(dropped),
    )


def waiting_ms(state: State) -> int:
    """Since when a session with segments waits for a pass."""
    return max(state.served_ms, state.segments[0].waiting_ms)


def wants(state: State, budget: Budget) -> Row | None:
    """The row that a session's first unfinished segment asks for; None: it waits for words."""
    if not state.segments:
        return None
    return segments.row(state.segments[0], budget.max_source_tokens, budget.min_source_tokens)
