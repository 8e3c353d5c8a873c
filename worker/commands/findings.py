"""The findings of `decalage doctor`."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from worker.commands.faults import fault_of


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check, with a remedy unless it is ok; `facts` are its figures for programs."""

    name: str
    status: Literal["ok", "warning", "failed"]
    text: str
    remedy: str = ""
    facts: Mapping[str, Any] = {}

    def as_json(self) -> dict[str, Any]:
        """Return all fields, for programs."""
        return msgspec.structs.asdict(self)


def guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Run a check; turn an error into a finding too, so that the next check still runs."""
    try:
        return check()
    except Exception as error:  # the boundary of a check
        return Finding(name, "failed", fault_of(error).message)
