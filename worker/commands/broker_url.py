"""The URL of the Redis that a command uses."""

import os
import sys


def redis_url(given: str | None) -> str:
    """Return the given URL, else $DECALAGE_REDIS, else that of the embedded broker; start the broker if none runs.

    Raises BrokerError.
    """
    if url := given or os.environ.get("DECALAGE_REDIS"):
        return url
    from worker.io.broker import ensure_broker

    broker = ensure_broker()
    if broker.started:
        print(f"started a broker at {broker.url}; `decalage serve` starts a worker for it", file=sys.stderr)
    return broker.url
