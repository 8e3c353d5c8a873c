"""`/v1/generate` and `/v1/generate_batch`: prompts as sessions of one segment, which share the workers' passes."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from producers.gateway.auth import Caller
from producers.gateway.endpoint import json_response, read_json
from producers.gateway.errors import ApiError, api_error, worker_error
from producers.gateway.feeds import Feed
from producers.gateway.gateway import Gateway
from producers.gateway.listening import listen
from producers.gateway.prompts import split_prompt
from producers.gateway.sessions import split_text
from producers.gateway.sse import event_stream, named_frame
from protocol import (
    Error,
    InputTextAppend,
    Limits,
    OutputTextDelta,
    Policy,
    Sampling,
    SegmentDone,
    Session,
    SessionClose,
    SessionClosed,
    Speculation,
    WaitK,
    check,
    decode_server,
)
from protocol.options import Language

MAX_PROMPTS: Final = 64
DEFAULT_MAX_TOKENS: Final = 256

MaxTokens = Annotated[int, Meta(ge=1, le=1_000_000)]


class _Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS
    temperature: Annotated[float, Meta(ge=0, le=10)] = 0.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    use_speculative: bool = True
    wait_k: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    policy: Policy | None = None
    source_language: Language = "en"
    target_language: Language | None = None


class GenerateRequest(_Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/generate`."""

    prompt: Annotated[str, Meta(min_length=1)]
    stream: bool = False


class BatchRequest(_Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/generate_batch`."""

    prompts: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1, max_length=MAX_PROMPTS)]


class Completion(Struct, frozen=True, kw_only=True):
    """The answer to one prompt."""

    id: str
    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length", "empty"]
    latency_s: float
    object: Literal["text_completion"] = "text_completion"


async def generate(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Answer one prompt, whole or word by word."""
    asked = await read_json(request, GenerateRequest)
    if not asked.stream:
        return json_response(await _complete(gateway, caller, asked, asked.prompt))
    async with AsyncExitStack() as stack:
        stack.enter_context(gateway.connections.hold(caller.name))
        run = await stack.enter_async_context(_running(gateway, caller, asked, asked.prompt))
        return event_stream(gateway, _frames(gateway, run), stack.pop_all())
    raise AssertionError("the stack swallows no exception")


async def generate_batch(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Answer several prompts; their sessions open together, so that a worker computes them in shared passes."""
    asked = await read_json(request, BatchRequest)
    tasks = [asyncio.create_task(_complete(gateway, caller, asked, prompt)) for prompt in asked.prompts]
    try:
        results = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return json_response({"object": "list", "results": results})


class _Run(Struct, frozen=True):
    session_id: str
    feed: Feed
    max_tokens: int
    start_s: float


@asynccontextmanager
async def _running(gateway: Gateway, caller: Caller, asked: _Options, prompt: str) -> AsyncIterator[_Run]:
    """Yield the session of a prompt that has been sent; close it when whoever asked has gone."""
    start_s = time.monotonic()
    session, text = session_of(asked, prompt)
    session_id = await gateway.create(caller, session)
    events = [check(InputTextAppend(text=part)) for part in split_text(text)] + [check(SessionClose())]
    async with gateway.feeds.open(session_id) as feed:
        await gateway.writer.send(session_id, events)
        yield _Run(session_id, feed, asked.max_tokens, start_s)


def session_of(asked: _Options, prompt: str) -> tuple[Session, str]:
    """Return the options of the session for a prompt, and its source words. Raises ApiError for both k and policy."""
    if asked.wait_k is not None and asked.policy is not None:
        raise ApiError(400, "invalid_value", "expected wait_k or policy, got both", param="$.policy")
    instruction, text = split_prompt(prompt) if asked.target_language is None else (None, prompt)
    policy = asked.policy or (None if asked.wait_k is None else WaitK(k=asked.wait_k))
    session = Session(
        source_language=asked.source_language,
        target_language=asked.target_language,
        prompt=instruction,
        mode="completion" if policy is None else "streaming",
        policy=policy,
        sampling=Sampling(temperature=asked.temperature, top_p=asked.top_p),
        limits=Limits(max_new_words=asked.max_tokens),
        speculation=Speculation(enabled=asked.use_speculative),
    )
    return session, text


async def _complete(gateway: Gateway, caller: Caller, asked: _Options, prompt: str) -> Completion:
    async with _running(gateway, caller, asked, prompt) as run, aclosing(_words(gateway, run)) as words:
        async for item in words:
            if isinstance(item, Completion):
                return item
    raise AssertionError("the last item is the completion")


async def _frames(gateway: Gateway, run: _Run) -> AsyncIterator[bytes]:
    try:
        async for item in _words(gateway, run):
            if isinstance(item, Completion):
                yield named_frame("end", item)
            else:
                yield b"data: %b\n\n" % item[1]
    except Exception as failure:
        yield named_frame("failure", {"error": api_error(failure).error})


async def _words(gateway: Gateway, run: _Run) -> AsyncGenerator[tuple[OutputTextDelta, bytes] | Completion, None]:
    """Yield each word with its JSON, then the completion. Raises ApiError for a refusal, or when no word comes in time.

    Words beyond `max_tokens` are left out.
    """
    text, num_tokens, is_cut = "", 0, False
    reason: Literal["stop", "length", "empty"] = "stop"
    async for events in listen(run.feed, 0, gateway.settings.generate_timeout_s):
        if not events:
            message = f"expected a word within {gateway.settings.generate_timeout_s:g} s, got none: try again later"
            raise ApiError(504, "generation_timeout", message)
        for event in events:
            match decode_server(event.data):
                case Error(code=code, message=message, param=param):
                    raise worker_error(code, message, param)
                case OutputTextDelta() as delta if not is_cut:
                    is_cut = num_tokens + len(delta.tokens) > run.max_tokens
                    if not is_cut:
                        text, num_tokens = text + delta.text, num_tokens + len(delta.tokens)
                        yield delta, event.data
                case SegmentDone(finish_reason=finish_reason):
                    reason = finish_reason if reason != "length" else reason
                case SessionClosed(reason="error"):
                    raise ApiError(500, "engine_error", "the session failed: send the prompt again")
                case _:
                    pass
    latency_s = time.monotonic() - run.start_s
    gateway.figures.generations += 1
    gateway.figures.generation_s += latency_s
    yield Completion(
        id=run.session_id,
        text=text,
        num_tokens=num_tokens,
        finish_reason="length" if is_cut else reason,
        latency_s=round(latency_s, 4),
    )
