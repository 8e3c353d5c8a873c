"""`decalage serve`: a worker that runs until a signal stops it."""

import argparse
from typing import Final

from worker.commands.arguments import add_kv_bits, add_redis, whole

HELP: Final = "run a worker: it translates every session on its Redis"
EXAMPLES: Final = """\
Each option can also be set by a variable: DECALAGE_REDIS, DECALAGE_MODEL, DECALAGE_METRICS_PORT and so on.
Ctrl-C, SIGTERM or SIGHUP drains the worker: it finishes what it is writing, hands its sessions over and exits. A
second Ctrl-C or SIGTERM ends it at once.

Examples:
  decalage serve
  decalage serve --redis redis://localhost:6379/0 --metrics-port 9465 --log-format json"""

_LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage serve`; each is None unless given, so that its variable counts."""
    add_redis(parser)
    parser.add_argument("--model", metavar="M", help="directory, GGUF file, hub id or shipped model (default: starter)")
    parser.add_argument(
        "--metrics-host", metavar="HOST", help="address that serves metrics and health (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--metrics-port", type=whole(-1, 65_535), metavar="N", help="0: any free port, -1: no metrics (default: 9464)"
    )
    parser.add_argument(
        "--max-sessions", type=whole(1), metavar="N", help="sessions open at the same time (default: 2000)"
    )
    _add_passes(parser)
    parser.add_argument(
        "--lease-ms",
        type=whole(100),
        metavar="MS",
        help="how long the sessions of a dead worker wait for another one (default: 3000)",
    )
    parser.add_argument(
        "--sweep-ms",
        type=whole(1),
        metavar="MS",
        help="how often to look for words of clients that ring no bell (default: 250)",
    )
    parser.add_argument(
        "--log-level", choices=_LOG_LEVELS, default="info", help="least severe messages to log (default: info)"
    )
    parser.add_argument(
        "--log-format", choices=("pretty", "json"), help="how to log (default: pretty on a terminal, otherwise json)"
    )


def _add_passes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-kv-bytes", type=whole(1), metavar="N", help="bytes of all sessions' keys and values (default: 8 GiB)"
    )
    add_kv_bits(parser)
    parser.add_argument("--max-batch-size", type=whole(1), metavar="N", help="sessions in one pass (default: 64)")
    parser.add_argument(
        "--max-pass-tokens",
        type=whole(8),
        metavar="N",
        help="tokens in one pass; longer texts are read in chunks, so that nobody waits for them (default: 2048)",
    )
    parser.add_argument(
        "--batch-timeout-ms",
        type=whole(0, 10_000),
        metavar="MS",
        help="how long an idle worker waits for a second session before it starts a pass (default: 0)",
    )
    parser.add_argument(
        "--draft-model", metavar="M", help="a smaller model with the same tokenizer, which drafts tokens"
    )
    parser.add_argument(
        "--use-speculative",
        action=argparse.BooleanOptionalAction,
        help="verify several drafted tokens in one pass: the same words in fewer passes (default: yes)",
    )
    parser.add_argument(
        "--max-draft-tokens", type=whole(1, 64), metavar="N", help="drafts of a session in one pass (default: 16)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal, drain the worker, and return 0."""
    import asyncio

    from worker.app.config import from_environment
    from worker.commands.output import silence_libraries
    from worker.io import logs

    silence_libraries()
    settings = from_environment(
        redis=args.redis,
        model=args.model,
        metrics_host=args.metrics_host,
        metrics_port=args.metrics_port,
        max_sessions=args.max_sessions,
        max_kv_bytes=args.max_kv_bytes,
        kv_bits=args.kv_bits,
        max_batch_size=args.max_batch_size,
        max_pass_tokens=args.max_pass_tokens,
        batch_timeout_ms=args.batch_timeout_ms,
        draft_model=args.draft_model,
        use_speculative=args.use_speculative,
        max_draft_tokens=args.max_draft_tokens,
        lease_ms=args.lease_ms,
        sweep_ms=args.sweep_ms,
    )
    logs.configure(args.log_level, json=None if args.log_format is None else args.log_format == "json")
    from worker.app.serve import serve

    asyncio.run(serve(settings))
    return 0
