"""The URL of the Redis that a command uses."""

import os
import sys


def redis_url(given: str | None, *, has_worker: bool = False) -> str:
    """Return the given URL, else $DECALAGE_REDIS, else that of the embedded broker; start the broker if none runs.

    With `has_worker`, the command starts a worker itself. Raises BrokerError.
    """
    if url := given or os.environ.get("DECALAGE_REDIS"):
        return url
    from worker.io.broker import ensure_broker

    broker = ensure_broker()
    if broker.started:
        next_step = "" if has_worker else "; `decalage serve` starts a worker for it"
        print(f"started a broker at {broker.url}{next_step}", file=sys.stderr)
    return broker.url
