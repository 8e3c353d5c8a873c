"""Law: nothing of a password is told, whatever answers behind the URL: not in errors, their tracebacks, or figures."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, cast
from urllib.parse import quote

import hiredis
import pytest

from producers import BrokerRefused, Publisher, Subscriber
from protocol import Session
from tests.producers.gateway.conftest import serve
from worker.commands import check_redis
from worker.io import client

PASSWORD: Final = "Zq@Xk:Jv/Wy?Qz#%é"
PIECES: Final = ("Zq", "Xk", "Jv", "Wy", "Qz", "%é", "%C3", "%25")

Reply = Callable[[Sequence[bytes]], bytes]


def _quoting(command: Sequence[bytes]) -> bytes:
    # As Redis does where an operator has renamed the command.
    name, *arguments = command
    return b"-ERR unknown command '%s', with args beginning with: %s \r\n" % (
        name,
        b" ".join(b"'%s'" % argument for argument in arguments),
    )


REPLIES: Final[dict[str, Reply]] = {
    "quoting": _quoting,
    "refusing": lambda _: b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    "asking": lambda _: b"-NOAUTH Authentication required.\r\n",
    "denying": lambda _: b"-NOPERM this user has no permissions to run this command\r\n",
    "no Redis": lambda _: b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "ending": lambda _: b"",
}


class _Answering(asyncio.Protocol):
    """Gives this answer to every command, and hangs up for an empty one, and for what is no Redis's."""

    def __init__(self, reply: Reply) -> None:
        self._reply, self._reader = reply, hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while command := self._reader.gets():
                if not (answer := self._reply(command)):
                    return self._transport.close()
                self._transport.write(answer)
        except hiredis.ProtocolError:  # TLS begins with other bytes
            self._transport.close()


@asynccontextmanager
async def server(reply: Reply, path: Path | None = None) -> AsyncIterator[str]:
    """Yield the place of a server in a URL: this path of a socket, or a port."""
    loop, answering = asyncio.get_running_loop(), partial(_Answering, reply)
    if path is not None:
        async with await loop.create_unix_server(answering, path):
            yield str(path)
        return
    async with await loop.create_server(answering, "127.0.0.1", 0) as listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def _check(url: str) -> None:
    async with client.connect(url) as redis:
        await client.check(redis)


async def _ask(url: str) -> None:
    async with client.connect(url) as redis:
        await redis.ask("EXISTS", "key")


async def _publish(url: str) -> None:
    async with Publisher(url, "name", Session(target_language="fr")) as publisher:
        await publisher.create()


async def _subscribe(url: str) -> None:
    async with Subscriber(url, "name", timeout_s=0.5) as events:
        async for _ in events:
            pass


ACTS: Final[dict[str, Callable[[str], Awaitable[None]]]] = {
    "check": _check,
    "ask": _ask,
    "publish": _publish,
    "subscribe": _subscribe,
}


def shown(error: BaseException) -> str:
    """Return all that is ever shown of an error, without the source of this file."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(line for line in lines if "PASSWORD" not in line)


def check_secrecy(text: str) -> None:
    """Fail where a piece of the password is in the text."""
    assert not [piece for piece in PIECES if piece in text], text


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_S", 0.3)  # TLS waits for a plain server that says nothing
    monkeypatch.setattr("producers.connection.CONNECT_TIMEOUT_S", 0.3)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "unix"])
async def test_whatever_the_server_answers(scheme: str, reply: str, act: str, tmp_path: Path) -> None:
    """The call fails; its error and the traceback of its causes name the address alone."""
    path = tmp_path / "s" if scheme == "unix" else None
    async with server(REPLIES[reply], path) as place:
        with pytest.raises(Exception, match=r"\S") as failure:
            await ACTS[act](f"{scheme}://worker:{quote(PASSWORD, safe='')}@{place}")
    check_secrecy(shown(failure.value))


@pytest.mark.parametrize(
    ("act", "kind", "said"),
    [
        ("check", client.RedisUnreachable, "refuses this login"),
        ("publish", BrokerRefused, "refused the command: .*invalid username-password pair"),
        ("subscribe", BrokerRefused, "refused the command: .*invalid username-password pair"),
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "unix"])
async def test_a_refused_login_is_called_so(
    scheme: str, act: str, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    """Not a Redis that does not answer, and that is waited for."""
    path = tmp_path / "s" if scheme == "unix" else None
    async with server(REPLIES["refusing"], path) as place:
        with pytest.raises(kind, match=said):
            await ACTS[act](f"{scheme}://worker:secret@{place}")


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_what_doctor_and_gateway_tell(scheme: str, reply: str) -> None:
    """The finding, the body of `/readyz` and of other paths, the metrics."""
    async with server(REPLIES[reply]) as place:
        url = f"{scheme}://worker:{quote(PASSWORD, safe='')}@{place}"
        finding = await asyncio.to_thread(check_redis.redis, url)
        async with serve(url) as served:
            paths = ("readyz", "metrics", "v1/stats", "v1/sessions/name", "v1/me")
            bodies = [(await served.http.get(path)).text for path in paths]
    assert finding.status == "failed"
    assert '"ok":false' in bodies[0]
    if reply in ("refusing", "ending"):
        assert ("Redis refuses" in bodies[0]) == (reply == "refusing")
    for text in (str(finding.as_json()), *bodies):
        check_secrecy(text)
