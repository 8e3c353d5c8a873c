"""`decalage send`: write text into a session, at once or at the pace of a speaker."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct

from producers.connection import broker_errors, open_writer
from producers.console import fail, follow, run_command, say, worker_hint
from producers.errors import BrokerRefused, BrokerUnreachable, ProducerError
from producers.publisher import Publisher
from producers.sources import PARAGRAPH, file_lines, paced, stdin_lines, text_lines, words
from producers.subscriber import Subscriber
from producers.tail import last_target_seq
from producers.transcript import JsonLines, Transcript
from protocol import (
    ClientEvent,
    Error,
    InputTextAppend,
    InputTextFinalize,
    ProtocolError,
    Session,
    SessionPhase,
    check_session_id,
    source_key,
)

_BATCH_EVENTS: Final = 256
_QUIET_S: Final = 0.3
_MAX_ANSWER_S: Final = 1.5


class Options(Struct, frozen=True):
    """The options of a new session, and which of them were `given`: a session that is joined keeps its own."""

    session: Session
    given: tuple[str, ...] = ()


class Sent(Struct):
    """The amounts sent so far."""

    words: int = 0
    events: int = 0


def run(args: argparse.Namespace, url: str, options: Options) -> int:
    """Send the text into the session's stream at this broker. Return 0, 1 for an error, 130 for Ctrl-C.

    `args` has `text`, `file`, `pace` (words a second, 0: no pauses), `session`, `keep_open`, `close`, `watch`, `json`.
    """
    if args.keep_open and args.close:
        return fail("expected one of --keep-open and --close, got both", as_json=args.json)
    if args.text and args.file:
        return fail("expected TEXT or --file, got both", as_json=args.json)
    if args.text and not "".join(args.text).strip():
        return fail("expected words in TEXT, got none; without TEXT, standard input is read", as_json=args.json)
    if args.file:
        try:
            open(args.file, "rb").close()
        except OSError as failure:  # before there is a session that would get nothing
            return fail(f"{args.file}: {failure.strerror}", code="unreadable_source", as_json=args.json)
    return run_command(_send(args, url, options), as_json=args.json)


async def _send(args: argparse.Namespace, url: str, options: Options) -> int:
    after = await _target_seq(url, args.session)
    is_joined = after is not None
    publisher = await Publisher.join(url, args.session) if is_joined else Publisher(url, args.session, options.session)
    async with publisher:
        sending = _Sending(args, publisher, options.given, is_joined=is_joined)
        if not args.watch:
            return await sending.run() or await _refusals(args, url, publisher.session_id, after=after or 0)
        async with Subscriber(url, publisher.session_id, after=after or 0) as events:
            if args.json:
                code = await sending.run()
                return await follow(events, JsonLines(), is_new=not is_joined, is_sender=True) or code
            hint = worker_hint(events.address)
            return await _both(sending, follow(events, Transcript(), hint=hint, is_new=not is_joined, is_sender=True))


async def _refusals(args: argparse.Namespace, url: str, session_id: str, *, after: int) -> int:
    """Return the exit code: 1, with a message, if the worker has refused events.

    A worker refuses an event as soon as it reads it. Do not wait for a silent one: later refusals are shown by --watch
    or `decalage watch`.
    """
    errors: list[Error] = []
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(_MAX_ANSWER_S),
            Subscriber(url, session_id, after=after, timeout_s=_QUIET_S) as events,
        ):
            async for event in events:
                errors += [event] if isinstance(event, Error) else []
    if not errors:
        return 0
    refusal = errors[0]
    return fail(
        f"the worker refused {len(errors)} of the events, first: {refusal.code}: {refusal.message}",
        code=refusal.code,
        as_json=args.json,
    )


async def _both(sending: "_Sending", watching: Coroutine[Any, Any, int]) -> int:
    """Return the exit code of the session, or of sending; sending stops when the session ends first."""
    sender = asyncio.create_task(sending.run())
    watcher = asyncio.create_task(watching)
    try:
        await asyncio.wait({sender, watcher}, return_when=asyncio.FIRST_COMPLETED)
        code = sender.result() if sender.done() else 0
        return await watcher or code
    finally:
        for task in (sender, watcher):
            task.cancel()
        await asyncio.gather(sender, watcher, return_exceptions=True)


class _Sending:
    """One text and the session that it is sent to."""

    def __init__(
        self, args: argparse.Namespace, publisher: Publisher, given: tuple[str, ...], *, is_joined: bool
    ) -> None:
        self._args = args
        self._publisher = publisher
        self._given = given
        self._is_joined = is_joined
        self._closes = bool(args.close or not (args.keep_open or is_joined))
        self._sent = Sent()

    async def run(self) -> int:
        """Send everything, then close the session if asked to, also when interrupted. Return the exit code."""
        try:
            if not self._is_joined:
                await self._publisher.create()
                self._sent.events += 1
            self._announce()
            await self._send_text()
            if self._closes:
                await self._publisher.close()
                self._sent.events += 1
        except (BrokerUnreachable, BrokerRefused):
            raise
        except BaseException:
            await self._give_up()
            raise
        self._report()
        return self._exit_code()

    def _exit_code(self) -> int:
        # 1, with a message, where no words came and the command was not only to open or to close a session.
        if self._sent.words or self._args.keep_open or self._args.close:
            return 0
        origin = self._args.file or "standard input"
        return fail(f"expected words in {origin}, got none; to send none, say --keep-open or --close")

    async def _send_text(self) -> None:
        """Send all words and finalize their last segment; an empty text makes an empty segment."""
        is_open = True
        texts_per_call = 1 if self._is_live() else _BATCH_EVENTS
        async for texts in _batches(paced(_lines(self._args), self._args.pace), texts_per_call):
            is_open = texts[-1] != PARAGRAPH
            await self._send_events(*map(_event, texts))
            self._sent.words += sum(1 for _ in words(texts))
        if is_open:
            await self._send_events(InputTextFinalize())

    def _is_live(self) -> bool:
        # Spoken or typed words go out at once; a text that is already complete, in many events to a round trip.
        is_whole = bool(self._args.text) or os.path.isfile(self._args.file or "")
        return bool(self._args.pace) or not is_whole

    async def _send_events(self, *events: ClientEvent) -> None:
        await self._publisher.send(*events)
        self._sent.events += len(events)

    async def _give_up(self) -> None:
        """Close the session, so that no worker waits for more words; words already sent are still translated."""
        if self._closes and self._publisher.phase is SessionPhase.OPEN:
            with suppress(ProducerError, ProtocolError):
                await self._publisher.close()

    def _announce(self) -> None:
        publisher = self._publisher
        place = f" --redis {publisher.address}" if getattr(self._args, "redis", None) else ""
        verb = "joined" if self._is_joined else "new"
        say(f"{verb} session {publisher.session_id} at {publisher.address}")
        if not self._args.watch:
            say(f"follow it with: decalage watch {publisher.session_id}{place}")
        if self._is_joined and self._given:
            say(f"the session keeps its own options; not used: {', '.join(self._given)}")
        if not self._args.text and not self._args.file and sys.stdin.isatty():
            say("type the text, line by line; Ctrl-D ends it")

    def _report(self) -> None:
        sent = self._sent
        if not self._args.json:
            say(f"sent {sent.words} words in {sent.events} events")
            return
        fact = {
            "session": self._publisher.session_id,
            "broker": self._publisher.address,
            "words": sent.words,
            "events": sent.events,
            "joined": self._is_joined,
            "closed": self._closes,
        }
        print(json.dumps(fact), flush=True)


def _event(text: str) -> ClientEvent:
    return InputTextFinalize() if text == PARAGRAPH else InputTextAppend(text=text)


async def _batches(texts: AsyncIterator[str], size: int) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    try:
        async for text in texts:
            batch.append(text)
            if len(batch) == size:
                yield batch
                batch = []
    except ProducerError:  # the text read before the failure is still sent
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _lines(args: argparse.Namespace) -> AsyncIterator[str]:
    if args.text:
        return text_lines(" ".join(args.text))
    return file_lines(args.file) if args.file else stdin_lines()


async def _target_seq(url: str, session_id: str | None) -> int | None:
    """Return the number of the newest target event of an existing session, or None: there is none to join."""
    if session_id is None:
        return None
    link = open_writer(url)
    try:
        with broker_errors(link.address):
            is_there = await link.client.exists(source_key(check_session_id(session_id)))
            return await last_target_seq(link.client, session_id) if is_there else None
    finally:
        await link.close()
