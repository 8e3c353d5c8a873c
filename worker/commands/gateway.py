"""`decalage gateway`: HTTP, server-sent events, WebSocket and the console, in front of Redis."""

import argparse
import asyncio
import logging
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.commands import arguments
from worker.commands.broker_url import redis_url

if TYPE_CHECKING:
    from producers.gateway.gateway import Gateway

HELP: Final = "serve HTTP, WebSocket and the console, for programs and browsers that do not speak Redis"
EXAMPLES: Final = """\
Without keys it listens on this machine only. --new-key prints a key and the line of it for the file that --keys names.

Examples:
  decalage gateway
  decalage gateway --new-key captions --scopes subscribe
  decalage gateway --host 0.0.0.0 --keys keys.txt --redis redis://localhost:6379/0"""

_SCOPES: Final = ("produce", "subscribe", "configure", "stats")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage gateway`."""
    add_listening(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument("--new-key", metavar="NAME", help="print a new key and its line, and exit")
    parser.add_argument(
        "--scopes",
        nargs="+",
        choices=_SCOPES,
        default=["produce", "subscribe"],
        help="what the new key may do (default: produce subscribe)",
    )


def add_listening(parser: argparse.ArgumentParser) -> None:
    """Add the options that `gateway` and `up` share."""
    arguments.add_redis(parser)
    parser.add_argument(
        "--port", type=arguments.whole(0, 65_535), default=8080, metavar="N", help="0: any free one (default: 8080)"
    )
    parser.add_argument(
        "--keys", type=Path, metavar="FILE", help="API keys, one a line (default: $DECALAGE_GATEWAY_KEYS, else none)"
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a page that may call the gateway from a browser, as https://example.com; can be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal, and return 0. Raises InvalidKeys, UnsafeHost, PortTaken, and the errors of the broker."""
    from producers.gateway.auth import new_key

    if args.new_key is not None:
        key, line = new_key(args.new_key, args.scopes)
        print(f"key:  {key}\nline: {line}")
        return 0
    from producers.gateway.server import serve

    gateway = gateway_of(args, redis_url(args.redis), host=args.host)

    def on_ready(url: str) -> None:
        print(f"gateway at {url}, for {gateway.lookups.address}; {access_of(gateway)}", file=sys.stderr)

    raise_file_limit()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(gateway, on_ready))
    return 0


def raise_file_limit() -> None:
    """Allow this process as many open connections as the system does; many shells start with 256 or 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a limit of its own below the one that it tells
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def gateway_of(args: argparse.Namespace, url: str, *, host: str) -> "Gateway":
    """Return the gateway for the options. Raises InvalidKeys, InvalidBrokerUrl, OSError."""
    from producers.gateway.auth import Keys, parse_keys
    from producers.gateway.gateway import Gateway
    from producers.gateway.settings import KEYS_VARIABLE, SECRET_VARIABLE, Settings

    text = os.environ.get(KEYS_VARIABLE, "").replace(";", "\n") if args.keys is None else args.keys.read_text()
    secret = os.environ.get(SECRET_VARIABLE, "").encode()
    settings = Settings(redis=url, host=host, port=args.port, allowed_origins=tuple(args.allow_origin))
    return Gateway(settings, Keys(parse_keys(text.splitlines()), secret))


def access_of(gateway: "Gateway") -> str:
    """Say who may use the gateway."""
    return "no keys are set, so it serves this machine only" if gateway.keys.is_open else "with a key"
