"""The OpenAPI document of the HTTP routes, made from the Structs that the routes decode; and a page that shows it."""

import html
import json
from functools import cache
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from producers.gateway.endpoint import json_response
from producers.gateway.generate import BatchRequest, GenerateRequest
from producers.gateway.openai_realtime import ClientSecretRequest
from producers.gateway.sessions import CreateRequest, InputRequest, LinkRequest
from producers.gateway.stats import ConfigureRequest

Json: TypeAlias = dict[str, Any]

VERSION: Final = "1.0.0"


class Operation(Struct, frozen=True, kw_only=True):
    """One route: what it takes and what it answers."""

    method: str
    path: str
    summary: str
    status: int = 200
    body: type[Struct] | None = None
    example: Json = {}
    is_body_required: bool = True
    query: tuple[str, ...] = ()
    content: str = "application/json"
    is_open: bool = False
    """Whether it needs no key."""
    errors: tuple[int, ...] = (400, 401, 403, 404, 429, 503)


_TALK: Final = {"session": {"target_language": "fr", "policy": {"type": "wait-k", "k": 3}}}
_PROMPT: Final = {"prompt": "Translate to French: We are at home.", "max_tokens": 100}
_PROMPTS: Final = {"prompts": ["We are at home.", "The train leaves at eight."], "target_language": "de"}
_BODY_ERRORS: Final = (400, 401, 403, 404, 408, 409, 413, 429, 500, 503, 504)

OPERATIONS: Final = (
    Operation(
        method="post", path="/v1/sessions", summary="Open a session or a group", status=201, body=CreateRequest,
        example=_TALK, errors=_BODY_ERRORS,
    ),
    Operation(method="get", path="/v1/sessions/{id}", summary="Tell where a session stands"),
    Operation(method="delete", path="/v1/sessions/{id}", summary="Close a session or a group", status=202,
              errors=_BODY_ERRORS),
    Operation(
        method="post", path="/v1/sessions/{id}/input", summary="Write words to a session or a group", status=202,
        body=InputRequest, example={"text": "We are at home.", "finalize": True, "close": True}, errors=_BODY_ERRORS,
    ),
    Operation(
        method="get", path="/v1/sessions/{id}/events", summary="Listen to a session by server-sent events",
        query=("after",), content="text/event-stream",
    ),
    Operation(
        method="post", path="/v1/sessions/{id}/links", summary="Make a link that reads one session", status=201,
        body=LinkRequest, example={"expires_in_s": 3600}, errors=_BODY_ERRORS,
    ),
    Operation(
        method="post", path="/v1/generate", summary="Answer one prompt", body=GenerateRequest, example=_PROMPT,
        errors=_BODY_ERRORS,
    ),
    Operation(
        method="post", path="/v1/generate_batch", summary="Answer several prompts in shared passes", body=BatchRequest,
        example=_PROMPTS, errors=_BODY_ERRORS,
    ),
    Operation(
        method="post", path="/v1/realtime/translations/client_secrets", summary="Make a short-lived key for a browser",
        body=ClientSecretRequest, example={"session": {"model": "decalage"}}, errors=_BODY_ERRORS,
    ),
    Operation(method="get", path="/v1/stats", summary="Figures of the gateway and of all workers"),
    Operation(
        method="post", path="/v1/configure", summary="Change settings of all workers, by query or body", status=202,
        body=ConfigureRequest, example={"use_speculative": True}, is_body_required=False,
        query=("use_speculative_decoding", "max_batch_size"), errors=_BODY_ERRORS,
    ),
    Operation(method="get", path="/v1/me", summary="What the caller's key allows"),
    Operation(method="get", path="/metrics", summary="Figures in Prometheus's format", content="text/plain"),
    Operation(method="get", path="/livez", summary="Whether the gateway answers", is_open=True, errors=()),
    Operation(method="get", path="/readyz", summary="Whether a worker serves", is_open=True, errors=(503,)),
)  # fmt: skip
"""All HTTP routes of the API."""

_QUERY: Final[dict[str, Json]] = {
    "after": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
    "use_speculative_decoding": {"type": "boolean"},
    "max_batch_size": {"type": "integer", "minimum": 1},
}


@cache
def document() -> Json:
    """Return the OpenAPI 3.1 document."""
    bodies = [operation.body for operation in OPERATIONS if operation.body is not None]
    _, schemas = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    fields: Json = {name: {"type": "string"} for name in ("type", "code", "message")}
    fields["param"] = {"type": ["string", "null"]}
    error = {"type": "object", "required": list(fields), "properties": fields}
    schemas["ErrorBody"] = {"type": "object", "required": ["error"], "properties": {"error": error}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Decalage gateway",
            "version": VERSION,
            "description": "Simultaneous translation by HTTP, server-sent events and WebSocket.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "query": {"type": "apiKey", "in": "query", "name": "key"},
            },
        },
        "security": [{"bearer": []}, {"query": []}, {}],
    }


def _operation(operation: Operation) -> Json:
    parameters: list[Json] = [
        {"name": name, "in": "query", "required": False, "schema": _QUERY[name]} for name in operation.query
    ]
    if "{id}" in operation.path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    answers: Json = {str(operation.status): {"description": "Done.", "content": {operation.content: {}}}}
    if operation.content == "text/event-stream":
        answers["204"] = {"description": "The session has ended, and the client has all of it."}
    for status in operation.errors:
        schema = {} if operation.is_open else {"schema": {"$ref": "#/components/schemas/ErrorBody"}}
        answers[str(status)] = {"description": "An error.", "content": {"application/json": schema}}
    described: Json = {"summary": operation.summary, "parameters": parameters, "responses": answers}
    if operation.is_open:
        described["security"] = []
    if operation.body is not None:
        reference = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        content = {"application/json": {"schema": reference, "example": operation.example}}
        described["requestBody"] = {"required": operation.is_body_required, "content": content}
    return described


async def get_document(request: Request) -> Response:
    """Return the OpenAPI document."""
    return json_response(document())


async def get_page(request: Request) -> Response:
    """Return the document as a page without scripts."""
    return HTMLResponse(page(str(request.base_url)))


def page(base_url: str) -> str:
    """Return the page: every route, with an example to paste into a shell.

    >>> "curl" in page("http://127.0.0.1:8080/")
    True
    """
    parts = []
    for operation in OPERATIONS:
        name = f"{operation.method.upper()} {operation.path}"
        parts += [f"<h2>{html.escape(name)}</h2>", f"<p>{html.escape(operation.summary)}.</p>"]
        parts.append(f"<pre>{html.escape(curl(operation, base_url))}</pre>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Decalage: the API</title>'
        '<meta name="viewport" content="width=device-width"></head><body><h1>Decalage: the API</h1>'
        f'<p>The same as an <a href="/v1/openapi.json">OpenAPI document</a>.</p>{"".join(parts)}</body></html>'
    )


def curl(operation: Operation, base_url: str) -> str:
    """Return the command that calls this route with its example."""
    method = "" if operation.method == "get" else f" -X {operation.method.upper()}"
    body = f" -d '{json.dumps(operation.example)}'" if operation.body is not None else ""
    return f"curl -sS{method} {base_url.rstrip('/')}{operation.path}{body}"
