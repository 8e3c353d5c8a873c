"""`Publisher` for programs without an event loop. Each call returns when Redis has the event.

with SyncPublisher("redis://127.0.0.1:6379", session=Session(target_language="fr")) as publisher:
    publisher.create()
    publisher.append("Good morning")
    publisher.finalize()
    publisher.close()
"""

from typing import Any, Self

from producers.publisher import Publisher
from producers.session_methods import BlockingMethods
from protocol import Session, SessionPhase


class SyncPublisher(BlockingMethods[Publisher]):
    """The one writer of one session, with the options, errors and guarantees of `Publisher`.

    Use it from one thread, and not inside an event loop: use `Publisher` there.
    """

    def __init__(
        self, broker: str, session_id: str | None = None, session: Session | None = None, **options: Any
    ) -> None:
        """Do not connect yet. Raises what `Publisher` raises."""
        self._writer = Publisher(broker, session_id, session, **options)
        super().__init__()

    @classmethod
    def join(cls, broker: str, session_id: str, **options: Any) -> Self:
        """Return a publisher that continues an existing session. Raises what `Publisher.join` raises."""
        publisher = cls(broker, session_id, **options)
        try:
            publisher._writer = publisher._run(Publisher.join(broker, session_id, **options))
        except BaseException:
            publisher.disconnect()
            raise
        return publisher

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._writer.session_id

    @property
    def phase(self) -> SessionPhase:
        """The session's phase, as far as this publisher knows it."""
        return self._writer.phase

    @property
    def num_unsent_events(self) -> int:
        """Events that Redis has not confirmed."""
        return self._writer.num_unsent_events

    def flush(self) -> None:
        """Send every event that earlier calls kept."""
        self._run(self._writer.flush())
