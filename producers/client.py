"""`AsyncClient` for programs without an event loop.

with Client("http://127.0.0.1:8080", Session(target_language="fr")) as client:
    client.create()
    client.append("Good morning")
    client.close()
    for event in client:
        print(event)
"""

from typing import Any, Self

from producers.async_client import AsyncClient
from producers.session_methods import BlockingMethods
from protocol import ServerEvent, Session


class Client(BlockingMethods[AsyncClient]):
    """One session through a gateway, with the methods of `AsyncClient`; a plain iterator over its events."""

    def __init__(self, url: str, session: Session | None = None, **options: Any) -> None:
        """Do not connect yet; `options` are those of `AsyncClient`."""
        self._writer = AsyncClient(url, session, **options)
        super().__init__()

    @classmethod
    def listen(cls, url: str, session_id: str, **options: Any) -> Self:
        """Return a client that only reads a session; `options` are those of `AsyncClient.listen`."""
        client = cls(url)
        client._writer = AsyncClient.listen(url, session_id, **options)
        return client

    @property
    def session_id(self) -> str:
        """The session's id, once it is known."""
        return self._writer.session_id

    @property
    def last_seq(self) -> int:
        """The number of the last event delivered."""
        return self._writer.last_seq

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ServerEvent:
        try:
            return self._run(self._writer.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
