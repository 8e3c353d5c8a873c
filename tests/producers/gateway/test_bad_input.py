"""Whatever is sent, the answer is an error with a body that says what was expected; never a 500, never a hang."""

import asyncio
import json
import logging
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from producers.gateway.auth import Caller
from producers.gateway.endpoint import decode_json
from producers.gateway.errors import ApiError, api_error
from producers.gateway.openapi import OPERATIONS
from producers.gateway.sessions import CreateRequest, InputRequest, LinkRequest
from tests.producers.gateway.conftest import DEADLINE_S, Served, Serving, bearer, hashed, ready
from tests.producers.gateway.streams import listened
from tests.producers.gateway.test_auth import error_of
from tests.producers.gateway.test_sessions import opened, said
from tests.producers.proxy import Proxy

WORD: Final = "<script>alert(1)</script>"
WEBSOCKETS: Final = ("/v1/realtime", "/v1/realtime/translations?model=m")
WITHOUT_REDIS: Final = ("/v1/me", "/metrics", "/v1/realtime/translations/client_secrets")
"""Routes with an answer that Redis has no part in."""


@pytest.mark.parametrize(
    ("body", "outcome", "param"),
    [
        (b"", (400, "malformed_json"), None),
        (b"{", (400, "malformed_json"), None),
        (b"\xff\xfe", (400, "malformed_json"), None),
        (b'{"a": ' + b"[" * 100_000, (400, "invalid_event"), "$"),
        (b"[]", (400, "invalid_event"), "$"),
        (b'{"sesion": {}}', (400, "invalid_event"), "$"),
        (b'{"session": 1}', (400, "invalid_event"), "$.session"),
        (b'{"session": {"policy": {"type": "wait-k", "k": 0}}}', (400, "invalid_event"), "$.session.policy.k"),
        (b'{"session": {"policy": {"type": "wait-x"}}}', (400, "invalid_event"), "$.session.policy.type"),
        (b'{"target_languages": []}', (400, "invalid_event"), "$.target_languages"),
        (b'{"target_languages": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]}', (400, "invalid_event"), None),
        (b'{"target_languages": ["fr"], "variants": [{}]}', (400, "invalid_value"), "$.variants"),
    ],
)
async def test_a_wrong_body_of_a_new_session(serving: Serving, body: bytes, outcome: Any, param: str | None) -> None:
    """It is refused before anything asks for a worker."""
    async with serving() as served:
        answer = await served.http.post("/v1/sessions", content=body)
        assert error_of(answer) == outcome
        assert param is None or answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"text": "\\ud800"}', b"[]", b'{"no_such": 1}', b"x" * 5_000]
)
async def test_a_wrong_body_on_every_route(serving: Serving, served: Served, body: bytes) -> None:
    """No route takes what is no JSON object, has unknown fields or is too large."""
    session_id = (await opened(served))["id"]
    async with serving(max_body_bytes=4_000) as strict:
        for operation in OPERATIONS:
            if operation.body is not None and (body or operation.is_body_required):
                path = operation.path.replace("{id}", session_id)
                status, _ = error_of(await strict.http.request(operation.method, path, content=body))
                assert status == (413 if len(body) > 4_000 else 400)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"text": 1}, "invalid_event"),
        ({"txt": "a"}, "invalid_event"),
        ({"events": [{"type": "session.create"}]}, "invalid_event"),
        ({"events": [{"type": "output_text.delta"}]}, "invalid_event"),
        ({"events": [{"type": "input_text.append", "text": "a" * 9_000}]}, "invalid_event"),
        ({"events": [{"type": "input_text.append", "seq": -1, "text": "a"}]}, "invalid_event"),
        ({"events": [], "text": "a"}, "invalid_value"),
    ],
)
async def test_wrong_input(served: Served, body: Any, code: str) -> None:
    """It is refused whole: nothing of it reaches the session."""
    session_id = (await opened(served))["id"]
    answer = await served.http.post(f"/v1/sessions/{session_id}/input", json=body)
    assert error_of(answer) == (400, code)
    await said(served, session_id, close=True)
    heard = await listened(served.http, f"/v1/sessions/{session_id}/events")
    assert [frame.data.get("type") for frame in heard] == ["session.created", "session.closed", None]


async def test_events_out_of_order_are_answered_by_the_worker(served: Served) -> None:
    """A gap in the numbers is an event that names the expected one."""
    session_id = (await opened(served))["id"]
    append = {"type": "input_text.append", "text": "a"}
    await said(
        served, session_id, events=[{**append, "seq": 1}, {**append, "seq": 3}, {"type": "session.close", "seq": 2}]
    )
    heard = await listened(served.http, f"/v1/sessions/{session_id}/events")
    gaps = [frame.data for frame in heard if frame.data.get("code") == "sequence_gap"]
    assert [gap["expected_seq"] for gap in gaps] == [2]


@pytest.mark.parametrize(
    ("method", "path", "outcome"),
    [
        ("GET", "/v1/nothing", (404, "not_found")),
        ("GET", "/nothing.html", (404, "not_found")),
        ("PUT", "/v1/sessions", (405, "method_not_allowed")),
        ("GET", "/v1/sessions/sess_0", (404, "session_not_found")),
        ("GET", "/v1/sessions/%2e%2e%2fetc", (404, "not_found")),
        ("GET", "/v1/sessions/a%20b/events", (404, "session_not_found")),
        ("DELETE", "/v1/sessions/group_0.3", (404, "session_not_found")),
        ("DELETE", "/v1/sessions/group_0.999999999999999999999999", (404, "session_not_found")),
    ],
)
async def test_unknown_paths_and_sessions(serving: Serving, method: str, path: str, outcome: Any) -> None:
    """They are not found, with the body of every error."""
    async with serving() as served:
        assert error_of(await served.http.request(method, path)) == outcome


@pytest.mark.parametrize("position", ["-1", "x", "1.5", "99999999999999999999", "²"])
async def test_wrong_positions(served: Served, position: str) -> None:
    """A position that is no number of an event is refused."""
    path = f"/v1/sessions/{(await opened(served))['id']}/events"
    assert error_of(await served.http.get(path, params={"after": position})) == (400, "invalid_value")


async def test_bodies_that_are_too_large_or_too_slow(serving: Serving) -> None:
    """Their size and their time are bounded, whatever the headers say."""
    async with serving(max_body_bytes=1_000, body_timeout_s=0.1) as served:
        assert error_of(await served.http.post("/v1/sessions", content=b"x" * 2_000)) == (413, "body_too_large")

        async def chunks() -> Any:
            for _ in range(3):
                yield b"x" * 500

        assert error_of(await served.http.post("/v1/sessions", content=chunks())) == (413, "body_too_large")
        host, port = served.url.removeprefix("http://").strip("/").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(DEADLINE_S):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_a_head_that_never_ends(serving: Serving) -> None:
    """A client that sends its headers byte by byte is cut off, also behind a first request."""
    async with serving(head_timeout_s=0.1) as served:
        host, port = served.url.removeprefix("http://").strip("/").split(":")
        whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for first in (b"", whole):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(first + b"GET /livez HT")
            async with asyncio.timeout(DEADLINE_S):
                said = await reader.read() if first else await _rest(reader)
            assert (b" 200 " in said) is bool(first)
            writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http(serving: Serving, data: bytes) -> None:
    """The answer has the body of every error, and the connection ends."""
    async with serving() as served:
        reader, writer = await _connected(served)
        writer.write(data)
        async with asyncio.timeout(DEADLINE_S):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    error = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["error"]
    assert (set(error), error["code"]) == ({"type", "code", "message", "param"}, "malformed_request")


async def test_what_is_no_http_in_the_middle_of_an_answer(serving: Serving, served: Served) -> None:
    """It ends the stream, and nobody else's."""
    session_id = (await opened(served))["id"]
    reader, writer = await _connected(served)
    head = f"GET /v1/sessions/{session_id}/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(DEADLINE_S):
        await reader.readuntil(b"session.created")
        writer.write(b"zz\r\n")
        await _rest(reader)
    writer.close()
    assert (await served.http.get("/livez")).status_code == 200


async def _connected(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = served.url.removeprefix("http://").strip("/").split(":")
    return await asyncio.open_connection(host, int(port))


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def refused(served: Served, path: str, **options: Any) -> tuple[int, str, str | None]:
    """Return status, code and `Retry-After` of the answer to a WebSocket's handshake."""
    with pytest.raises(InvalidStatus) as refusal:
        await served.websocket(path, **options).__aenter__()
    answer = refusal.value.response
    error = json.loads(answer.body or b"")["error"]
    assert set(error) == {"type", "code", "message", "param"}
    return answer.status_code, error["code"], answer.headers.get("retry-after")


async def test_a_websocket_elsewhere(serving: Serving) -> None:
    """Paths that take none say so, as for other requests."""
    async with serving() as served:
        for path in ("/", "/v1/sessions", "/v1/realtime/no", "/main.js"):
            assert await refused(served, path) == (404, "not_found", None)


async def test_every_route_needs_a_key_with_its_scope(serving: Serving) -> None:
    """No key, an unknown one, one without scopes, an expired link: on all routes, before anything else."""
    keys = hashed(bare=Caller("team-a", frozenset()))
    cases = [
        ({}, (401, "missing_key")),
        (bearer("wrong"), (401, "invalid_key")),
        (bearer(keys.link("sess_0", 1)), (401, "expired_link")),
        (bearer("bare"), (403, "missing_scope")),
    ]
    async with serving(keys=keys) as served:
        for headers, outcome in cases:
            for operation in OPERATIONS:
                if operation.is_open or (operation.path == "/v1/me" and outcome[0] == 403):
                    continue
                path = operation.path.replace("{id}", "sess_0")
                answer = await served.http.request(operation.method, path, json=operation.example, headers=headers)
                assert error_of(answer) == outcome, path
            for path in (*WEBSOCKETS, "/v1/realtime?session=sess_0"):
                assert await refused(served, path, additional_headers=headers) == (*outcome, None)


async def test_redis_away(redis_url: str, serving: Serving) -> None:
    """503 with Retry-After, at once; when Redis is back, everything works again."""
    async with Proxy(redis_url) as proxy, serving(redis=proxy.url) as served:
        await proxy.down()
        async with asyncio.timeout(DEADLINE_S):
            for operation in OPERATIONS:
                if operation.is_open or operation.path in WITHOUT_REDIS:
                    continue
                path = operation.path.replace("{id}", "sess_0")
                answer = await served.http.request(operation.method, path, json=operation.example)
                assert error_of(answer) == (503, "redis_unavailable"), path
                assert answer.headers["retry-after"] == "1"
            for path in (*WEBSOCKETS, "/v1/realtime?session=sess_0"):
                assert await refused(served, path) == (503, "redis_unavailable", "1")
            health = await served.http.get("/readyz")
        assert (health.status_code, health.json()["reasons"]) == (503, ["Redis does not answer"])
        assert (await served.http.get("/livez")).status_code == 200
        await proxy.up()
        assert error_of(await served.http.get("/v1/sessions/sess_0")) == (404, "session_not_found")


async def test_all_workers_away(serving: Serving) -> None:
    """A session that nobody would serve is not opened."""
    async with serving() as served:
        for path in ("/v1/sessions", "/v1/generate", "/v1/generate_batch", "/v1/configure"):
            [body] = [each.example for each in OPERATIONS if each.path == path]
            for asked in (body, body | {"stream": True}) if path == "/v1/generate" else (body,):
                answer = await served.http.post(path, json=asked)
                assert error_of(answer) == (503, "no_worker")
                assert answer.headers["retry-after"] == "1"
        for path in WEBSOCKETS:
            assert await refused(served, path) == (503, "no_worker", "1")
        assert (await served.http.get("/readyz")).json()["reasons"] == ["no worker serves"]


async def test_redis_cut_off_while_somebody_listens(redis_url: str, serving: Serving, served: Served) -> None:
    """The stream goes on behind its last event when Redis is back: no gap, no duplicate."""
    async with Proxy(redis_url) as proxy, serving(redis=proxy.url, heartbeat_s=0.05) as behind:
        await ready(behind)
        session_id = (await opened(served))["id"]
        listening = asyncio.create_task(listened(behind.http, f"/v1/sessions/{session_id}/events"))
        for word in ["My", "sister", "works", "in", "a", "hospital."]:
            await said(served, session_id, text=word)
            proxy.cut()
        await said(served, session_id, finalize=True, close=True)
        async with asyncio.timeout(DEADLINE_S):
            heard = await listening
    assert [frame.id for frame in heard[:-1]] == list(range(1, len(heard)))


async def test_html_in_words_stays_text(served: Served) -> None:
    """Words come back as JSON, under a policy that runs no script of theirs."""
    session_id = (await opened(served))["id"]
    await said(served, session_id, text=f"{WORD} is here.", finalize=True, close=True)
    async with served.http.stream("GET", f"/v1/sessions/{session_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"].startswith("default-src 'self'")
        await response.aread()


async def test_no_words_and_no_keys_in_logs(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Neither of good requests nor of bad ones, at any level of the log."""
    caplog.set_level(logging.DEBUG, logger="producers")
    caplog.set_level(logging.DEBUG, logger="uvicorn")
    session_id = (await opened(served))["id"]
    await said(served, session_id, text="secretword", close=True)
    await listened(served.http, f"/v1/sessions/{session_id}/events", params={"key": "secretkey"})
    await served.http.post(f"/v1/sessions/{session_id}/input", content=b'{"text": "secretword')
    assert "secret" not in caplog.text


_names = st.sampled_from(["session", "events", "text", "type", "variants", "policy", "k", "finalize", "expires_in_s"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names | st.text(), inner, max_size=3),
)


@settings(max_examples=80)
@given(data=st.binary() | _values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_request_or_an_error(data: bytes) -> None:
    """No body makes a server error."""
    for shape in (CreateRequest, InputRequest, LinkRequest):
        failure = _failure(data, shape)
        assert failure is None or api_error(failure).status == 400


def _failure(data: bytes, shape: type[Any]) -> Exception | None:
    try:
        decode_json(data, shape)
    except Exception as failure:
        return failure
    return None


def test_every_error_has_the_same_shape() -> None:
    """A bug tells its kind, not its text, which may hold words."""
    assert api_error(ValueError("secretword")).status == 500
    assert "secretword" not in str(api_error(ValueError("secretword")))
    assert set(json.loads(ApiError(400, "a", "b").body)["error"]) == {"type", "code", "message", "param"}
