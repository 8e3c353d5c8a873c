"""The numbers of a source stream's events, and the one producer whose they are. Worker and producer count alike."""

from typing import Final, Self

from msgspec import Struct, structs

from protocol.errors import ProducerConflict
from protocol.grammar import check_seq

MAX_REPLACED: Final = 16
"""Producers of a session that are remembered as replaced, the newest."""


class Numbering(Struct, frozen=True):
    """How far the numbered events of a session have come.

    A producer that continues the numbers takes the session over. One that it has replaced, or that used a number too
    late, is refused from then on. Producers without a name cannot be told apart, and are never refused for good.
    """

    last: int | None = None
    """The newest number."""
    producer: str = ""
    """Whose it is."""
    replaced: tuple[str, ...] = ()
    """Producers that are refused."""

    def take(self, seq: int | None, producer: str | None) -> Self | None:
        """Return the numbering after an event; None: the event is there already. Raises SequenceGap, ProducerConflict.

        >>> Numbering(4, "a").take(5, "b")
        Numbering(last=5, producer='b', replaced=('a',))
        """
        if seq is None:
            return self
        name = producer or ""
        if name in self.replaced:
            raise ProducerConflict(
                f"another producer has taken over this session; its events go up to {self.last}, the {seq} of this one "
                "is not translated",
                producer=name,
            )
        if check_seq(self.last, seq) == "new":
            after = self if self.last is None or name == self.producer else self.without(self.producer)
            return structs.replace(after, last=seq, producer=name)
        if name != self.producer:
            raise ProducerConflict(
                f"another producer has sent event {seq} of this session; the {seq} of this one is not translated",
                producer=name,
            )
        return None

    def without(self, producer: str) -> Self:
        """Return the numbering that refuses this producer."""
        if not producer or producer in self.replaced:
            return self
        return structs.replace(self, replaced=(*self.replaced, producer)[-MAX_REPLACED:])
