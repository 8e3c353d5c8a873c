"""`Publisher` for programs without an event loop. Each call returns when Redis has the event.

with SyncPublisher("redis://127.0.0.1:6379", session=Session(target_language="fr")) as publisher:
    publisher.create()
    publisher.append("Good morning")
    publisher.finalize()
    publisher.close()
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from producers.publisher import Publisher
from protocol import Session, SessionPatch, SessionPhase

_T = TypeVar("_T")


class SyncPublisher:
    """The one writer of one session, with the options, errors and guarantees of `Publisher`.

    Use it from one thread, and not inside an event loop: use `Publisher` there.
    """

    def __init__(
        self, broker: str, session_id: str | None = None, session: Session | None = None, **options: Any
    ) -> None:
        """Do not connect yet. Raises what `Publisher` raises."""
        self._publisher = Publisher(broker, session_id, session, **options)
        self._runner = asyncio.Runner()

    @classmethod
    def join(cls, broker: str, session_id: str, **options: Any) -> Self:
        """Return a publisher that continues an existing session. Raises what `Publisher.join` raises."""
        publisher = cls(broker, session_id, **options)
        try:
            publisher._publisher = publisher._run(Publisher.join(broker, session_id, **options))
        except BaseException:
            publisher.disconnect()
            raise
        return publisher

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            call.close()
            raise TypeError("expected a program without an event loop, got a call inside one: use Publisher here")
        return self._runner.run(call)

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._publisher.session_id

    @property
    def phase(self) -> SessionPhase:
        """The session's phase, as far as this publisher knows it."""
        return self._publisher.phase

    @property
    def num_unsent_events(self) -> int:
        """Events that Redis has not confirmed."""
        return self._publisher.num_unsent_events

    def create(self) -> None:
        """Ask for the session."""
        self._run(self._publisher.create())

    def append(self, text: str) -> None:
        """Append the words of `text` to the open segment."""
        self._run(self._publisher.append(text))

    def finalize(self) -> None:
        """End the open segment: its source is complete."""
        self._run(self._publisher.finalize())

    def update(self, patch: SessionPatch) -> None:
        """Ask the session to continue with these options."""
        self._run(self._publisher.update(patch))

    def close(self) -> None:
        """Ask the session to close once all that was sent is translated; this publisher stays connected."""
        self._run(self._publisher.close())

    def flush(self) -> None:
        """Send every event that earlier calls kept."""
        self._run(self._publisher.flush())

    def disconnect(self) -> None:
        """Close every connection of this publisher; leave the session as it is."""
        self._run(self._publisher.disconnect())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()
