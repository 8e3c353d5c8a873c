"""Each role works with the login that deploy/README.md gives it, and asks Redis for nothing beyond."""

import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from producers import Publisher, Subscriber
from protocol import OutputTextDelta, Session
from tests.docs.pages import OPERATIONS
from tests.producers.gateway.conftest import Running, Serving, ready
from worker.commands import check_redis
from worker.io.rehearsal import ROLES

NOT_NEEDED = frozenset({"client|setinfo", "client"})
"""What redis-py asks for at each connection, and does without."""


def logins() -> dict[str, list[str]]:
    """Return the rules of each user on the page."""
    [block] = [block.text for block in OPERATIONS.blocks if "ACL SETUSER" in block.text]
    lines = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert all(line[:3] == ["redis-cli", "ACL", "SETUSER"] for line in lines)
    return {line[3]: line[4:] for line in lines}


def test_the_page_has_the_rules_that_the_doctor_names() -> None:
    """One login for each role."""
    assert {user: rules[3:] for user, rules in logins().items()} == {
        role: check_redis._RULES_OF[role].split() for role in ROLES
    }


@pytest.fixture
async def users(redis_client: Redis) -> AsyncIterator[None]:
    """The users of the page."""
    client: Any = redis_client
    for user, rules in logins().items():
        await client.execute_command("ACL", "SETUSER", user, *rules)
    await client.execute_command("ACL", "LOG", "RESET")
    yield
    await client.execute_command("ACL", "DELUSER", *logins())


@pytest.mark.usefixtures("users")
async def test_a_session_by_way_of_each_role(
    redis_url: str, redis_client: Redis, running: Running, serving: Serving
) -> None:
    """A publisher's words and a caller's of the gateway are translated; Redis has denied nothing."""
    url = {role: redis_url.replace("://", f"://{role}:SECRET@") for role in ROLES}
    async with (
        running(redis=url["worker"]),
        serving(redis=url["gateway"]) as gateway,
        Publisher(url["producer"], "talk", Session(target_language="fr")) as publisher,
        Subscriber(url["subscriber"], "talk", timeout_s=60) as events,
    ):
        await ready(gateway)
        await publisher.create()
        await publisher.append("We are at home.")
        again = await Publisher.join(url["producer"], "talk")
        await again.close()
        await again.disconnect()
        heard = [event.text async for event in events if isinstance(event, OutputTextDelta)]
        assert "".join(heard) == "Nous sommes chez nous."
        prompt = {"prompt": "Translate to French: We are at home."}
        answer = await gateway.http.post("/v1/generate", json=prompt)
        assert (answer.status_code, answer.json()["text"]) == (200, "Nous sommes chez nous.")
        assert (await gateway.http.get("/v1/stats")).status_code == 200
        assert (await gateway.http.post("/v1/configure", json={"max_sessions": 9})).status_code == 202
        listened = await gateway.http.get("/v1/sessions/talk/events")
        assert "session.closed" in listened.text
    denied: Any = await redis_client.acl_log()
    assert {entry["object"] for entry in denied} <= NOT_NEEDED, denied


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("role", ROLES)
def test_the_doctor_is_content_with_a_roles_login(redis_url: str, role: str) -> None:
    """In that role; in all roles, it tells what else there is, with the rule to set."""
    url = redis_url.replace("://", f"://{role}:SECRET@")
    found = check_redis.redis(url, role)
    assert (found.status, found.facts.get("denied")) == ("ok", None)
    everything = check_redis.redis(url)
    assert everything.status == "failed"
    assert everything.remedy.startswith(f"ACL SETUSER {role} ")
