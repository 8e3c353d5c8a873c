"""What a check of `decalage doctor` found."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from worker.commands.faults import fault_of


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check. `remedy` says what to do where it is not ok; `facts` are its figures, for programs."""

    name: str
    status: Literal["ok", "warning", "failed"]
    text: str
    remedy: str = ""
    facts: Mapping[str, Any] = {}

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return msgspec.structs.asdict(self)


def guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """What the check found; whatever it raises is a finding too: the next check still runs."""
    try:
        return check()
    except Exception as error:  # a check's border
        return Finding(name, "failed", fault_of(error).message)
