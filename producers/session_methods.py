"""What writers of a session share: its events as methods, and the same methods for programs without an event loop."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from protocol import ClientEvent, InputTextAppend, InputTextFinalize, SessionClose, SessionPatch, SessionUpdate

_T = TypeVar("_T")


class SessionMethods:
    """The events of a session as methods; `create`, `send` and `disconnect` are the writer's own."""

    async def create(self) -> None:
        """Ask for the session."""
        raise NotImplementedError

    async def send(self, *events: ClientEvent) -> None:
        """Send several events."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Close the connection; leave the session as it is."""
        raise NotImplementedError

    async def append(self, text: str) -> None:
        """Append the words of `text` (whole words, white space between them) to the open segment."""
        await self.send(InputTextAppend(text=text))

    async def finalize(self) -> None:
        """End the open segment: its source is complete."""
        await self.send(InputTextFinalize())

    async def update(self, patch: SessionPatch) -> None:
        """Ask the session to continue with these options."""
        await self.send(SessionUpdate(session=patch))

    async def close(self) -> None:
        """Ask the session to close once all that was sent is translated; stay connected."""
        await self.send(SessionClose())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()


_Writer = TypeVar("_Writer", bound=SessionMethods)


class BlockingMethods(Generic[_Writer]):
    """A writer's methods without an event loop: each call returns when the writer's has. Use it from one thread."""

    _writer: _Writer

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            call.close()
            name = type(self._writer).__name__
            raise TypeError(f"expected a program without an event loop, got a call inside one: use {name} here")
        return self._runner.run(call)

    def create(self) -> None:
        """Ask for the session."""
        self._run(self._writer.create())

    def append(self, text: str) -> None:
        """Append the words of `text` to the open segment."""
        self._run(self._writer.append(text))

    def finalize(self) -> None:
        """End the open segment: its source is complete."""
        self._run(self._writer.finalize())

    def update(self, patch: SessionPatch) -> None:
        """Ask the session to continue with these options."""
        self._run(self._writer.update(patch))

    def close(self) -> None:
        """Ask the session to close once all that was sent is translated; stay connected."""
        self._run(self._writer.close())

    def disconnect(self) -> None:
        """Close every connection; leave the session as it is."""
        self._run(self._writer.disconnect())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()
