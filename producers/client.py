"""`AsyncClient` for programs without an event loop.

with Client("http://127.0.0.1:8080", Session(target_language="fr")) as client:
    client.create()
    client.append("Good morning")
    client.close()
    for event in client:
        print(event)
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from producers.async_client import AsyncClient
from protocol import ServerEvent, Session, SessionPatch

_T = TypeVar("_T")


class Client:
    """One session through a gateway, with the methods of `AsyncClient`; a plain iterator over its events."""

    def __init__(self, url: str, session: Session | None = None, **options: Any) -> None:
        """Do not connect yet; `options` are those of `AsyncClient`."""
        self._runner: Final = asyncio.Runner()
        self._client: AsyncClient = self._run(_made(AsyncClient, url, session, **options))

    @classmethod
    def listen(cls, url: str, session_id: str, **options: Any) -> Self:
        """Return a client that only reads a session; `options` are those of `AsyncClient.listen`."""
        client = cls(url)
        client._client = client._run(_made(AsyncClient.listen, url, session_id, **options))
        return client

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        return self._runner.run(call)

    @property
    def session_id(self) -> str:
        """The session's id, once it is known."""
        return self._client.session_id

    @property
    def last_seq(self) -> int:
        """The number of the last event delivered."""
        return self._client.last_seq

    def create(self) -> None:
        """Open the session."""
        self._run(self._client.create())

    def append(self, text: str) -> None:
        """Append the words of `text` to the open segment."""
        self._run(self._client.append(text))

    def finalize(self) -> None:
        """End the open segment: its source is complete."""
        self._run(self._client.finalize())

    def update(self, patch: SessionPatch) -> None:
        """Ask the session to continue with these options."""
        self._run(self._client.update(patch))

    def close(self) -> None:
        """Ask the session to close once all that was sent is translated; this client stays connected."""
        self._run(self._client.close())

    def disconnect(self) -> None:
        """Close the connection; leave the session as it is."""
        self._run(self._client.disconnect())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ServerEvent:
        try:
            return self._run(self._client.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None


async def _made(kind: Any, *arguments: Any, **options: Any) -> Any:
    # Inside the event loop that the client will use.
    return kind(*arguments, **options)
