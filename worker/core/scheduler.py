"""Plan the next pass: choose rows of waiting sessions within a budget."""

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
    """Limits of one pass."""

    max_rows: int = 64  # sessions served in one pass; the others wait for the next one
    max_source_tokens: int = (
        512  # source tokens of one row: a long text is read in chunks, so that others get their turn
    )
    max_pass_tokens: int = 2048  # of all rows together, drafts not counted; a row that is longer goes alone
    min_source_tokens: int = 64  # least chunk of source that no target word waits for
    max_draft_tokens: int = 16  # drafts of one row beyond the token that ended its last word; 0: none
    # Of all rows together: the fuller a pass, the less it costs to do without drafts.
    max_tick_draft_tokens: int = 64
    has_drafter: bool = False  # in the engine: sessions leave it to that, and do not guess from their own text


class Plan(msgspec.Struct, frozen=True):
    """Rows for one pass, the session of each, and the lanes to free."""

    rows: tuple[Row, ...] = ()
    sessions: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()  # sessions that want a row, too, and have to wait for the next pass
    dropped: tuple[Lane, ...] = ()


def plan(states: Mapping[str, State], budget: Budget, *, dropped: Iterable[Lane] = ()) -> Plan:
    """Plan a pass with the rows that the sessions want; where not all fit, with those that have waited longest.

    A session waits since its oldest unread word arrived, or since it was served last if that is later. So a session
    with a long backlog gets no more turns than one with a single new word.
    """
    wanted = [wish for name, state in states.items() if (wish := _wanted(name, state, budget)) is not None]
    wanted.sort(key=lambda wish: wish.since_ms)  # stable: first come, first served
    chosen, others = _fitting(wanted, budget)
    share = min(budget.max_draft_tokens, budget.max_tick_draft_tokens // max(1, len(chosen)))
    shared = replace(budget, max_draft_tokens=share)
    return Plan(
        rows=tuple(_drafted(wish, shared) for wish in chosen),
        sessions=tuple(wish.name for wish in chosen),
        deferred=tuple(wish.name for wish in others),
        dropped=tuple(dropped),
    )


class _Wanted(NamedTuple):
    since_ms: int
    name: str
    state: State
    segment: Segment  # the session's first
    row: Row


def _fitting(wanted: list[_Wanted], budget: Budget) -> tuple[list[_Wanted], list[_Wanted]]:
    # The first always gets its row; behind it, a short row may overtake a long one that does not fit.
    chosen: list[_Wanted] = []
    others: list[_Wanted] = []
    room = budget.max_pass_tokens
    for wish in wanted:
        num_tokens = len(wish.row.source) + len(wish.row.target)
        if len(chosen) < budget.max_rows and (num_tokens <= room or not chosen):
            chosen.append(wish)
            room -= num_tokens
        else:
            others.append(wish)
    return chosen, others


def wants(state: State, budget: Budget) -> Row | None:
    """Return the row that a session's first unfinished segment asks for; None: it waits for words."""
    wish = _wanted("", state, budget)
    return None if wish is None else _drafted(wish, budget)


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
