"""Parts that `decalage send` and `decalage watch` share: exit codes, output, and how a broken pipe ends a command."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeAlias

from producers.errors import ProducerError
from producers.subscriber import Subscriber
from producers.transcript import JsonLines, Shown, Transcript
from protocol import Error, ProtocolError, SessionClosed

FAILED: Final = 1
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""

BROKEN_PIPE: Final = 141
"""128 + SIGPIPE."""

HINT_AFTER_S: Final = 3.0
"""Silence after which a hint tells how to start a worker."""

View: TypeAlias = Transcript | JsonLines


def run_command(command: Coroutine[Any, Any, int], *, as_json: bool = False) -> int:
    """Run the command and return its exit code. A failure is one line on the standard error, never a traceback.

    `as_json`: a failure is also printed as a JSON object on the standard output.
    """
    try:
        code = asyncio.run(command)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more at exit and would report an error: send that flush to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (ProducerError, ProtocolError, TimeoutError) as failure:
        return fail(str(failure), code=str(getattr(failure, "code", "failed")), as_json=as_json)


def fail(message: str, *, code: str = "invalid_input", as_json: bool = False) -> int:
    """Print the failure and return its exit code."""
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False), flush=True)
    say(f"decalage: error: {message}")
    return FAILED


def say(line: str) -> None:
    """Print the line on the standard error."""
    print(line, file=sys.stderr, flush=True)


def emit(shown: Shown) -> None:
    """Write both parts and flush them."""
    if shown.out:
        sys.stdout.write(shown.out)
        sys.stdout.flush()
    if shown.err:
        sys.stderr.write(shown.err)
        sys.stderr.flush()


async def follow(
    events: Subscriber, view: View, *, hint: str | None = None, is_new: bool = False, is_sender: bool = False
) -> int:
    """Show the session's events and return its exit code: 1 if it closed with an error.

    `hint` is printed once if no event arrives for a while. `is_new`: an error in place of session.created is the end,
    because a refused session is never closed. `is_sender`: any error event is a failure, since it refuses an event that
    was sent.
    """
    code = 0
    reminder = asyncio.create_task(_remind(hint)) if hint else None
    try:
        async for event in events:
            if reminder:
                reminder.cancel()
            emit(view.show(event))
            if is_new and isinstance(event, Error):
                return FAILED
            is_new = False
            is_refusal = is_sender and isinstance(event, Error)
            if is_refusal or (isinstance(event, SessionClosed) and event.reason == "error"):
                code = FAILED
    except asyncio.CancelledError:
        if view.is_midline:
            say("")
        raise
    finally:
        if reminder:
            reminder.cancel()
    return code


async def _remind(hint: str) -> None:
    await asyncio.sleep(HINT_AFTER_S)
    say(hint)


def worker_hint(address: str) -> str:
    """Return the hint for a session that no worker answers."""
    return f"nothing yet from {address}: is a worker running? `decalage serve` starts one, `--redis` names its broker"
