"""`/v1/stats`, with the field names of MLX ParaLLM, and `/v1/configure`."""

import logging
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct, structs
from starlette.requests import Request
from starlette.responses import Response

from producers.connection import broker_errors, interruptibly
from producers.gateway.auth import Caller
from producers.gateway.endpoint import decode_json, json_response, read_body
from producers.gateway.errors import ApiError
from producers.gateway.figures import Figures
from producers.gateway.gateway import Gateway
from protocol import WorkerConfigure, WorkerStats, encode
from protocol.codec import invalid_event
from protocol.keys import ABANDONED_TTL_S, CONFIGURE_KEY, EVENT_FIELD

MAX_CONFIGURE_ENTRIES: Final = 1_000
_LOG: Final = logging.getLogger(__name__)


Size: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]


class ConfigureRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of `POST /v1/configure`, from its query and its body; null leaves a setting as it is."""

    worker: str | None = None
    max_batch_size: Size | None = None
    batch_timeout_ms: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    max_sessions: Size | None = None
    use_speculative: bool | None = None
    use_speculative_decoding: bool | None = None
    """The documents' name of `use_speculative`."""
    max_draft_tokens: Annotated[int, Meta(ge=1, le=64)] | None = None


async def get_stats(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Return the figures of this gateway and of all workers that have reported lately."""
    return json_response(stats(gateway.figures, await gateway.directory.worker_stats()))


def stats(figures: Figures, workers: Sequence[WorkerStats]) -> dict[str, Any]:
    """Return the figures by the documents' names; null where nothing has happened yet. Latencies are in seconds."""

    def total(field: str) -> int:
        return sum(getattr(worker, field) for worker in workers)

    latency_s = _share(figures.generation_s, figures.generations)
    return {
        "total_requests": figures.generations,
        "average_latency": None if latency_s is None else round(latency_s, 4),
        "batching_stats": {
            "total_batches": total("passes"),
            "avg_batch_size": _share(total("forwards"), total("passes")),
            "total_tokens": total("tokens"),
        },
        "speculative_stats": {
            "acceptance_rate": _share(total("accepted_drafts"), total("proposed_drafts")),
            "draft_length": _share(total("proposed_drafts"), total("drafted_rows")),
        },
        "sessions": total("sessions"),
        "source_words": total("source_words"),
        "target_words": total("target_words"),
        "gateway": structs.asdict(figures),
        "workers": [msgspec.to_builtins(worker) for worker in workers],
    }


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


async def configure(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Change settings of all workers, or of one."""
    event = change(dict(request.query_params), await read_body(request))
    await gateway.check_workers()
    link = gateway.lookups
    with broker_errors(link.address):
        pipeline = link.client.pipeline(transaction=False)
        entry: dict[Any, Any] = {EVENT_FIELD: encode(event)}
        pipeline.xadd(CONFIGURE_KEY, entry, maxlen=MAX_CONFIGURE_ENTRIES, approximate=True)
        pipeline.expire(CONFIGURE_KEY, ABANDONED_TTL_S)
        await interruptibly(pipeline.execute())
    settings = {name: value for name, value in structs.asdict(event).items() if value is not None}
    _LOG.info("configured by %s: %s", caller.name or "anyone", settings)
    return json_response({"object": "configuration", "settings": settings}, 202)


def change(query: dict[str, str], body: bytes) -> WorkerConfigure:
    """Return the event that asks for these settings. Raises ApiError, InvalidEvent."""
    query.pop("key", None)
    asked = decode_json(body, ConfigureRequest) if body.strip() else ConfigureRequest()
    try:
        in_query = msgspec.convert(query, ConfigureRequest, strict=False)
    except msgspec.ValidationError as failure:
        raise invalid_event(str(failure)) from None
    both = _given(asked) | _given(in_query)
    if not both.keys() - {"worker"}:
        names = ", ".join(name for name in ConfigureRequest.__struct_fields__ if name != "worker")
        raise ApiError(400, "invalid_value", f"expected at least one setting of {names}, got none")
    if "use_speculative_decoding" in both:
        both.setdefault("use_speculative", both.pop("use_speculative_decoding"))
    return WorkerConfigure(**both)


def _given(asked: ConfigureRequest) -> dict[str, Any]:
    return {name: value for name, value in structs.asdict(asked).items() if value is not None}
