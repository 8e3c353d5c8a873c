"""Who may do what: keys with scopes, links, and a gateway without keys."""

import asyncio
import json
import time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from producers.gateway.auth import SCOPES, Caller, InvalidKeys, Keys, new_key, parse_keys, sent_key
from producers.gateway.errors import ApiError
from producers.gateway.server import UnsafeHost, open_port
from producers.gateway.settings import Settings
from producers.gateway.tokens import ExpiredToken, InvalidToken, pack, sign, unpack, verify
from tests.producers.gateway.conftest import DEADLINE_S, Served, Serving, bearer, hashed, ready
from tests.producers.gateway.streams import listened
from tests.producers.gateway.test_sessions import TRANSLATION, opened, said, text_of

ALL: Final = bearer("all-key")
KEYS: Final = {
    "all-key": Caller("team-a", SCOPES),
    "other-key": Caller("team-b", SCOPES),
    "produce-key": Caller("team-a", frozenset({"produce"})),
    "subscribe-key": Caller("team-a", frozenset({"subscribe"})),
}


def error_of(answer: Any) -> tuple[int, str]:
    """Return status and code of an error, whose body has the shape of all errors."""
    error = answer.json()["error"]
    assert set(error) == {"type", "code", "message", "param"}
    return answer.status_code, error["code"]


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({}, (401, "missing_key")),
        (bearer("wrong"), (401, "invalid_key")),
        ({"Authorization": "Basic YTpi"}, (401, "invalid_key")),
        ({"Authorization": "Bearer"}, (401, "invalid_key")),
        (bearer("subscribe-key"), (403, "missing_scope")),
    ],
)
async def test_a_key_with_the_scope_is_needed(serving: Serving, headers: Any, outcome: Any) -> None:
    """Without one nothing happens; 401 names the scheme."""
    async with serving(keys=hashed(**KEYS)) as served:
        answer = await served.http.post("/v1/sessions", json={}, headers=headers)
        assert error_of(answer) == outcome
        assert ("www-authenticate" in answer.headers) is (outcome[0] == 401)
        open_to_all = [(await served.http.get(path)).status_code for path in ("/livez", "/readyz")]
        assert open_to_all == [200, 503]


async def test_sessions_belong_to_the_name_of_a_key(serving: Serving, served: Served) -> None:
    """Keys of one name share them; to all others, and on every route, they are not found."""
    async with serving(keys=hashed(**KEYS)) as locked:
        created = await locked.http.post(
            "/v1/sessions", json={"session": {"target_language": "fr"}}, headers=bearer("produce-key")
        )
        path = f"/v1/sessions/{created.json()['id']}"
        body = {"text": "My sister works in a hospital.", "close": True}
        assert (await locked.http.post(f"{path}/input", json=body, headers=bearer("produce-key"))).status_code == 202
        assert text_of(await listened(locked.http, f"{path}/events", headers=bearer("subscribe-key"))) == TRANSLATION
        other = bearer("other-key")
        for method, route, content in (
            ("GET", path, None),
            ("GET", f"{path}/events", None),
            ("POST", f"{path}/input", body),
            ("POST", f"{path}/links", {}),
            ("DELETE", path, None),
        ):
            answer = await locked.http.request(method, route, json=content, headers=other)
            assert error_of(answer) == (404, "session_not_found")
        with pytest.raises(InvalidStatus) as refused:
            await locked.websocket(
                f"/v1/realtime?session={created.json()['id']}", additional_headers=other
            ).__aenter__()
        assert refused.value.response.status_code == 404


async def test_a_link_reads_one_session_for_a_time(serving: Serving, served: Served) -> None:
    """It reads this session by header or query, and nothing else; a link that has expired says so."""
    keys = hashed(**KEYS)
    async with serving(keys=keys) as locked:
        ids = []
        for _ in range(2):
            created = await locked.http.post("/v1/sessions", json={"session": {"target_language": "fr"}}, headers=ALL)
            ids.append(created.json()["id"])
            body = {"text": "My sister works in a hospital.", "close": True}
            await locked.http.post(f"/v1/sessions/{ids[-1]}/input", json=body, headers=ALL)
        path = f"/v1/sessions/{ids[0]}"
        link = (await locked.http.post(f"{path}/links", json={"expires_in_s": 60}, headers=ALL)).json()
        assert link["url"] == f"{locked.url}#listen={link['token']}"
        assert link["token"].partition("~")[0] == ids[0]
        assert abs(link["expires_at"] - time.time() - 60) < 30
        by_link = await listened(locked.http, f"{path}/events", params={"key": link["token"]})
        assert text_of(by_link) == TRANSLATION
        assert by_link == await listened(locked.http, f"{path}/events", headers=bearer(link["token"]))
        reading = bearer(link["token"])
        assert error_of(await locked.http.get(f"/v1/sessions/{ids[1]}/events", headers=reading))[0] == 404
        assert error_of(await locked.http.post(f"{path}/input", json=body, headers=reading)) == (403, "missing_scope")
        assert error_of(await locked.http.post(f"{path}/links", json={}, headers=reading)) == (403, "missing_scope")
        expired = bearer(keys.link(ids[0], int(time.time()) - 1))
        assert error_of(await locked.http.get(f"{path}/events", headers=expired)) == (401, "expired_link")
        forged = bearer(link["token"].replace(ids[0], ids[1]))
        assert error_of(await locked.http.get(f"/v1/sessions/{ids[1]}/events", headers=forged)) == (401, "invalid_key")


async def test_a_websocket_takes_the_key_in_its_subprotocol(serving: Serving, served: Served) -> None:
    """As browsers cannot set headers; the answer names the other one."""
    async with serving(keys=hashed(**KEYS)) as locked:
        await ready(locked)
        async with locked.websocket("/v1/realtime", subprotocols=["decalage", "decalage.key.all-key"]) as socket:
            assert socket.subprotocol == "decalage"
            assert json.loads(await socket.recv())["type"] == "gateway.attached"
        with pytest.raises(InvalidStatus) as refused:
            await locked.websocket("/v1/realtime", subprotocols=["decalage", "decalage.key.wrong"]).__aenter__()
        assert refused.value.response.status_code == 401


async def test_what_the_caller_may_do(serving: Serving) -> None:
    """`/v1/me` tells name, scopes and limits."""
    async with serving(keys=hashed(**KEYS)) as locked:
        mine = (await locked.http.get("/v1/me", headers=bearer("subscribe-key"))).json()
    assert (mine["key"], mine["scopes"], mine["requires_key"]) == ("team-a", ["subscribe"], True)
    async with serving() as served:
        mine = (await served.http.get("/v1/me")).json()
    assert (mine["key"], mine["scopes"], mine["requires_key"]) == (None, sorted(SCOPES), False)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[::1"])
async def test_pages_of_others_change_nothing(serving: Serving, origin: str) -> None:
    """A page of another origin that the browser has open cannot use the gateway, by HTTP or WebSocket."""
    async with serving() as served:
        answer = await served.http.post("/v1/sessions", json={}, headers={"Origin": origin})
        assert error_of(answer) == (403, "origin_not_allowed")
        with pytest.raises(InvalidStatus) as refused:
            await served.websocket("/v1/realtime", additional_headers={"Origin": origin}).__aenter__()
        assert refused.value.response.status_code == 403
        rebound = await served.http.get("/v1/me", headers={"Host": "evil.example"})
        assert error_of(rebound) == (403, "host_not_allowed")


async def test_an_allowed_origin(serving: Serving, served: Served) -> None:
    """A page on the list may; the browser's question before is answered."""
    async with serving(allowed_origins=("https://app.example",)) as open_to_app:
        origin = {"Origin": "https://app.example"}
        asked = await open_to_app.http.options(
            "/v1/sessions", headers={**origin, "Access-Control-Request-Method": "POST"}
        )
        assert asked.headers["access-control-allow-origin"] == "https://app.example"
        await ready(open_to_app)
        created = await open_to_app.http.post("/v1/sessions", json={}, headers=origin)
        assert created.status_code == 201
        assert created.headers["access-control-allow-origin"] == "https://app.example"


async def test_limits_of_a_key(serving: Serving, served: Served) -> None:
    """Requests, sessions and connections beyond them are refused, each by its name and with Retry-After."""
    async with serving(burst_requests=3, max_requests_per_s=0.01) as strict:
        answers = [await strict.http.get("/v1/me") for _ in range(4)]
        assert [each.status_code for each in answers] == [200, 200, 200, 429]
        assert error_of(answers[-1]) == (429, "rate_limit")
        assert int(answers[-1].headers["retry-after"]) > 1
    async with serving(max_sessions=2) as strict:
        await ready(strict)
        first = await opened(strict)
        await opened(strict)
        third = await strict.http.post("/v1/sessions", json={})
        assert error_of(third) == (429, "too_many_sessions")
        await said(strict, first["id"], close=True)
        await listened(strict.http, f"/v1/sessions/{first['id']}/events")
        async with asyncio.timeout(DEADLINE_S):  # noticed within a second
            while (await strict.http.post("/v1/sessions", json={})).status_code == 429:
                pass
    async with serving(max_connections=1) as strict:
        await ready(strict)
        async with strict.websocket("/v1/realtime"):
            second = await strict.http.get(f"/v1/sessions/{first['id']}/events")
            assert error_of(second) == (429, "too_many_connections")


def test_without_keys_only_this_machine() -> None:
    """Another address is refused before it is listened on."""
    with pytest.raises(UnsafeHost, match="expected keys for a gateway on 0"):
        open_port(Settings(redis="redis://h", host="0.0.0.0", port=0), has_keys=False)
    open_port(Settings(redis="redis://h", host="0.0.0.0", port=0), has_keys=True).close()


def test_a_new_key_is_stored_by_its_hash() -> None:
    """The line admits the key and does not hold it."""
    key, line = new_key("captions", ["subscribe"])
    assert key not in line
    assert Keys(parse_keys(["# all keys", "", line])).caller(key) == Caller("captions", frozenset({"subscribe"}))


@pytest.mark.parametrize(
    "line", ["name", "name abc produce", f"name {'0' * 64}", f"name {'0' * 64} fly", f"na/me {'0' * 64} stats"]
)
def test_a_wrong_line_of_keys(line: str) -> None:
    """It is named by its number, and not repeated: it may hold a key."""
    with pytest.raises(InvalidKeys, match="line 2") as refused:
        parse_keys(["# keys", line])
    assert line not in str(refused.value)
    with pytest.raises(InvalidKeys, match="again"):
        parse_keys([f"a {'0' * 64} stats", f"b {'0' * 64} stats"])


@given(subject=st.text(st.characters(exclude_characters="~"), max_size=40), secret=st.binary(min_size=1))
def test_tokens_are_what_was_signed(subject: str, secret: bytes) -> None:
    """A token gives its subject back until it expires, and no changed token does."""
    token = sign(subject, 100, secret)
    assert verify(token, secret, 99.0) == subject
    with pytest.raises(ExpiredToken):
        verify(token, secret, 100.0)
    for wrong in (f"x{token}", token[:-1], token.replace("~100~", "~999~"), "", "~", "~~", "a~b~c"):
        with pytest.raises(InvalidToken):
            verify(wrong, secret, 0.0)
    with pytest.raises(InvalidToken):
        verify(token, secret + b"x", 0.0)


@given(data=st.binary())
def test_packing(data: bytes) -> None:
    """What is packed fits into a token and comes back."""
    assert unpack(pack(data)) == data
    assert "~" not in pack(data)


def test_a_link_never_passes_for_a_client_secret() -> None:
    """Whatever the session is called."""
    keys = hashed(**KEYS)
    forged = keys.link("ek_" + pack(b'{"name": "team-a", "defaults": {}}'), 2**40)
    assert keys.caller(forged).session_id is not None
    secret = keys.client_secret(KEYS["all-key"], b'{"model": "m"}', 2**40)
    assert keys.caller(secret) == Caller(
        "team-a", frozenset({"produce", "subscribe"}), is_temporary=True, defaults=b'{"model": "m"}'
    )


def test_where_a_key_is_looked_for() -> None:
    """In the header, then in a subprotocol, then in the query."""
    header, query, offered = {"authorization": "bearer h"}, {"key": "q"}, ["realtime", "openai-insecure-api-key.s"]
    assert sent_key(header, query, offered) == "h"
    assert sent_key({}, query, offered) == "s"
    assert sent_key({}, query) == "q"
    assert sent_key({}, {}) is None
    with pytest.raises(ApiError, match="Bearer KEY"):
        sent_key({"authorization": "Digest x"}, query)
