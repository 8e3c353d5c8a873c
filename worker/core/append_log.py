"""An append-only sequence whose earlier states stay valid."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")
_T_co = TypeVar("_T_co", covariant=True)


class Log(Sequence[_T_co]):
    """An immutable sequence that equals the tuple of its items. Appending costs only the appended items.

    A log is a view of a list that later logs share. The newest log, which ends at the list's end, appends in place; any
    other appends to a copy. Slices are tuples, `[start:stop]` without a step.
    """

    __slots__ = ("_items", "_start", "_stop")

    def __init__(self, items: Iterable[_T_co] = ()) -> None:
        self._items: list[_T_co] = list(items)
        self._start, self._stop = 0, len(self._items)

    def append(self: "Log[T]", item: T) -> "Log[T]":
        """Return the log with one more item."""
        return self.extend((item,))

    def extend(self: "Log[T]", items: Sequence[T]) -> "Log[T]":
        """Return the log with these items at its end."""
        is_newest, num_dropped = self._stop == len(self._items), self._start
        # Dropped items stay in memory until they outnumber the rest.
        log = self if is_newest and 2 * num_dropped <= self._stop else Log(self)
        log._items.extend(items)
        return log._view(log._start, log._stop + len(items))

    def without(self: "Log[T]", num_items: int) -> "Log[T]":
        """Return the log without its first `num_items` items."""
        return self._view(min(self._start + num_items, self._stop), self._stop)

    def bisect_right(self, value: Any, *, key: Callable[[_T_co], Any] | None = None) -> int:
        """Return how many items have a key of at most `value`; the items are sorted by `key`."""
        return bisect_right(self._items, value, self._start, self._stop, key=key) - self._start

    def _view(self: "Log[T]", start: int, stop: int) -> "Log[T]":
        view: Log[T] = Log.__new__(Log)
        view._items, view._start, view._stop = self._items, start, stop
        return view

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[_T_co]:
        return iter(self._items[self._start : self._stop])

    @overload
    def __getitem__(self, index: int) -> _T_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[_T_co, ...]: ...
    def __getitem__(self, index: int | slice) -> _T_co | tuple[_T_co, ...]:
        if isinstance(index, int):
            position = index + (self._start if index >= 0 else self._stop)
            if self._start <= position < self._stop:
                return self._items[position]
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        start, stop, step = index.indices(self._stop - self._start)
        if step != 1:
            raise ValueError(f"expected a slice without a step, got {step}")
        return tuple(self._items[self._start + start : self._start + stop])

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Log | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Log({tuple(self)})"
