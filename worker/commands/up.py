"""`decalage up`: a broker, a worker, the gateway and its console, in one command."""

import argparse
import asyncio
import os
import sys
import webbrowser
from asyncio.subprocess import Process
from typing import TYPE_CHECKING, Any, Final

from worker.commands import arguments
from worker.commands.broker_url import redis_url
from worker.commands.faults import CommandError
from worker.commands.gateway import access_of, add_listening, gateway_of

if TYPE_CHECKING:
    from producers.gateway.gateway import Gateway

HELP: Final = "start everything, a worker, the gateway and its console, and show where to look"
EXAMPLES: Final = """\
Ctrl-C stops all of it.

Examples:
  decalage up --open
  decalage up --port 9000 --model DIRECTORY"""

HEALTH_S: Final = 0.5
"""How often to look whether a worker serves."""

_STOP_S: Final = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage up`."""
    add_listening(parser)
    arguments.add_model(parser)
    parser.add_argument("--open", action="store_true", help="open the console in the browser")


def run(args: argparse.Namespace) -> int:
    """Run all until a signal, and return 0. Raises CommandError when the worker ends by itself."""
    gateway = gateway_of(args, redis_url(args.redis, has_worker=True), host="127.0.0.1")
    asyncio.run(_run(args, gateway))
    return 0


async def _run(args: argparse.Namespace, gateway: "Gateway") -> None:
    from producers.gateway.server import serve

    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(gateway, address.set_result))
    either: list[asyncio.Future[Any]] = [serving, address]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        return await serving
    # A session of its own: a Ctrl-C at the keyboard reaches only this process, which then stops the worker.
    # The URL may hold a password, which no list of processes may show.
    command = [sys.executable, "-m", "worker", "serve", "--model", args.model, "--metrics-port", "0"]
    variables = os.environ | {"DECALAGE_REDIS": gateway.settings.redis}
    worker = await asyncio.create_subprocess_exec(
        *command, "--log-level", "warning", env=variables, start_new_session=True
    )
    ended = asyncio.create_task(worker.wait())
    health = asyncio.create_task(_show_health(gateway, address.result(), is_to_open=args.open))
    try:
        any_of: list[asyncio.Future[Any]] = [serving, ended, health]
        await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        if health.done():
            health.result()
        if not serving.done():
            raise CommandError(f"the worker ended with status {ended.result()}; its reason is above", code="no_worker")
        await serving
    finally:
        for task in (health, serving):
            task.cancel()
        await asyncio.gather(health, serving, return_exceptions=True)
        await _stop(worker)


async def _show_health(gateway: "Gateway", url: str, *, is_to_open: bool) -> None:
    """Print the URL once a worker serves, and a line whenever that changes."""
    from producers.errors import BrokerRefused, BrokerUnreachable

    print(f"starting a worker for {gateway.lookups.address} …", file=sys.stderr)
    health, is_first = "", True
    while True:
        try:
            num_workers = await gateway.directory.num_workers()
            now = "ready" if num_workers else "no worker serves"
        except (BrokerUnreachable, BrokerRefused):
            now = "Redis does not answer"
        if now != health and not (is_first and now != "ready"):
            health = now
            print(f"{now}: {url} ({access_of(gateway)}; Ctrl-C stops all)" if is_first else now, flush=True)
            if is_first and is_to_open:
                webbrowser.open(url)
            is_first = False
        await asyncio.sleep(HEALTH_S)


async def _stop(worker: Process) -> None:
    """Drain the worker; kill it if that takes too long."""
    if worker.returncode is not None:
        return
    worker.terminate()
    try:
        await asyncio.wait_for(worker.wait(), _STOP_S)
    except TimeoutError:
        worker.kill()
        await worker.wait()
