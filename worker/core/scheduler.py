"""One pass for all sessions: what each wants is packed into rows within a budget. Pure; the engine runs the plan."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from worker.core import drafting
from worker.core import segment as segments
from worker.core.rows import Lane, Row
from worker.core.segment import Segment
from worker.core.state import State


class Budget(msgspec.Struct, frozen=True):
    """How much one pass may hold."""

    max_rows: int = 64  # sessions served in one pass; the others wait for the next one
    max_source_tokens: int = (
        512  # source tokens of one row: a long text is read in chunks, so that others get their turn
    )
    max_pass_tokens: int = 2048  # of all rows together, drafts not counted; a row that is longer goes alone
    min_source_tokens: int = 64  # source that no target word waits for is read in chunks of at least so many tokens
    max_draft_tokens: int = 16  # drafts of one row beyond the token that ended its last word; 0: none
    # Of all rows together: the fuller a pass, the less it costs to do without drafts.
    max_tick_draft_tokens: int = 64
    has_drafter: bool = False  # in the engine: sessions leave it to that, and do not guess from their own text


class Plan(msgspec.Struct, frozen=True):
    """Rows for one pass, the session that each belongs to, and the lanes that nobody needs any more."""

    rows: tuple[Row, ...] = ()
    sessions: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()  # sessions that want a row, too, and have to wait for the next one
    dropped: tuple[Lane, ...] = ()


def plan(states: Mapping[str, State], budget: Budget, *, dropped: Iterable[Lane] = ()) -> Plan:
    """Plan what the sessions want; where not all fit, those that have waited longest.

    A session waits since its oldest unread word arrived, or since it was served last: so one with a long backlog has
    its turn no more often than one whose only word has just come.
    """
    wanted = [one for name, state in states.items() if (one := _wanted(name, state, budget)) is not None]
    wanted.sort(key=lambda one: one.since_ms)  # stable: who came first
    chosen, others = _fitting(wanted, budget)
    share = min(budget.max_draft_tokens, budget.max_tick_draft_tokens // max(1, len(chosen)))
    shared = replace(budget, max_draft_tokens=share)
    return Plan(
        rows=tuple(_drafted(one, shared) for one in chosen),
        sessions=tuple(one.name for one in chosen),
        deferred=tuple(one.name for one in others),
        dropped=tuple(dropped),
    )


class _Wanted(NamedTuple):
    since_ms: int
    name: str
    state: State
    segment: Segment  # its first
    row: Row


def _fitting(wanted: list[_Wanted], budget: Budget) -> tuple[list[_Wanted], list[_Wanted]]:
    # The first always has its row; behind it, a short row may pass a long one that has to wait.
    chosen: list[_Wanted] = []
    others: list[_Wanted] = []
    room = budget.max_pass_tokens
    for one in wanted:
        num_tokens = len(one.row.source) + len(one.row.target)
        if len(chosen) < budget.max_rows and (num_tokens <= room or not chosen):
            chosen.append(one)
            room -= num_tokens
        else:
            others.append(one)
    return chosen, others


def wants(state: State, budget: Budget) -> Row | None:
    """Return the row that a session's first unfinished segment asks for; None: it waits for words."""
    one = _wanted("", state, budget)
    return None if one is None else _drafted(one, budget)


def _wanted(name: str, state: State, budget: Budget) -> _Wanted | None:
    first = state.segments.first
    if first is None:
        return None
    longest = min(budget.max_source_tokens, budget.max_pass_tokens)
    row = segments.row(first, longest, budget.min_source_tokens)
    return None if row is None else _Wanted(max(state.served_ms, first.waiting_ms), name, state, first, row)


def _drafted(wanted: _Wanted, budget: Budget) -> Row:
    most = min(budget.max_draft_tokens, wanted.state.drafting.length)
    return drafting.extended(wanted.row, wanted.segment, most, has_drafter=budget.has_drafter)
