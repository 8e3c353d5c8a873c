"""One connection: over TCP, TLS and a Unix socket, and what ends it."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse

from protocol.redis_url import parse_redis_url
from tests.servers import real_names, real_servers
from worker.io.client import connect
from worker.io.connection import Connection


@contextlib.contextmanager
def serving(path: Path, folder: Path, *options: str) -> Iterator[None]:
    """A server with options of its own, until the block ends."""
    command = [str(path), "--dir", str(folder), "--save", "", "--unixsocket", str(folder / "redis.sock"), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


async def answered(url: str) -> None:
    """The server at `url` answers, once it is up."""
    async with asyncio.timeout(20), connect(url) as client:
        while True:
            with contextlib.suppress(Disconnected):
                assert await client.ask("ECHO", "a") == b"a"
                return


@pytest.mark.parametrize("name", real_names())
async def test_a_unix_socket(name: str, tmp_path: Path) -> None:
    """With a password, and a database in its query."""
    with serving(real_servers()[name], tmp_path, "--port", "0", "--requirepass", "p/@ss"):
        await answered(f"unix://:p/@ss@{tmp_path}/redis.sock?db=2")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of localhost that nobody trusts, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the certificate is made with openssl, which is not here")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem", folder / "key.pem"


@contextlib.asynccontextmanager
async def encrypted(certificate: Path, key: Path, upstream: str) -> AsyncIterator[int]:
    """The port of 127.0.0.1 at which the server at `upstream` is reached by TLS."""
    place = parse_redis_url(upstream)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(place.host, place.port)
        pumps = [asyncio.create_task(pump(*ends)) for ends in ((reader, to_server), (from_server, writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, to_server):
            end.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, until either end hangs up."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)


async def test_tls_checks_whom_it_talks_to(certificate: tuple[Path, Path], redis_url: str) -> None:
    """A certificate that is not trusted, or is another host's, ends the connection; options say whom to trust."""
    async with encrypted(*certificate, redis_url) as port:
        await answered(f"rediss://localhost:{port}?ssl_ca_certs={certificate[0]}")
        await answered(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none")
        for url in (f"rediss://localhost:{port}", f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate[0]}"):
            with pytest.raises(Disconnected, match="certificate"):
                await Connection.open(parse_redis_url(url), 10)


async def pair() -> tuple[Connection, socket.socket]:
    """A connection, and the socket of whoever plays the server."""
    ours, theirs = socket.socketpair()
    _, connection = await asyncio.get_running_loop().create_connection(Connection, sock=ours)
    return connection, theirs


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    """It is not taken for the next call's."""
    connection, theirs = await pair()
    asked = asyncio.create_task(connection.ask([("PING",), ("PING",)], 10))
    await asyncio.sleep(0)
    with theirs:
        assert theirs.recv(100) == b"*1\r\n$4\r\nPING\r\n" * 2
        theirs.sendall(b"+1\r\n+2\r\n+3\r\n")
        assert await asked == [b"1", b"2"]
        assert not connection.is_open
        with pytest.raises(Disconnected):
            await connection.ask([("PING",)], 10)


async def test_what_is_no_answer_ends_the_connection() -> None:
    """A server that speaks something else is no Redis."""
    connection, theirs = await pair()
    asked = asyncio.create_task(connection.ask([("PING",)], 10))
    await asyncio.sleep(0)
    with theirs:
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(InvalidResponse):
            await asked
    assert not connection.is_open
