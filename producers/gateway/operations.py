"""Routes for operators and for pages: liveness, readiness, metrics, who the caller is."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from producers.errors import BrokerRefused, BrokerUnreachable
from producers.gateway.auth import Caller
from producers.gateway.endpoint import gateway_of, json_response
from producers.gateway.errors import REFUSED
from producers.gateway.gateway import Gateway


async def livez(request: Request) -> Response:
    """Tell that the process answers."""
    return json_response({"ok": True, "reasons": []})


async def readyz(request: Request) -> Response:
    """Tell whether Redis answers and a worker serves."""
    reasons = []
    try:
        if not await gateway_of(request).directory.num_workers():
            reasons.append("no worker serves")
    except BrokerUnreachable:
        reasons.append("Redis does not answer")
    except BrokerRefused:
        reasons.append(REFUSED)
    return json_response({"ok": not reasons, "reasons": reasons}, 503 if reasons else 200)


async def metrics(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Return the gateway's figures for Prometheus."""
    headers = {"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE_LATEST}
    return Response(generate_latest(gateway.registry), headers=headers)


async def me(request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Tell what the caller's key allows."""
    settings = gateway.settings
    limits = {
        "max_body_bytes": settings.max_body_bytes,
        "max_frame_bytes": settings.max_frame_bytes,
        "max_requests_per_s": settings.max_requests_per_s,
        "max_sessions": settings.max_sessions,
        "max_connections": settings.max_connections,
    }
    scopes = sorted(caller.scopes)
    return json_response(
        {"key": caller.name, "scopes": scopes, "requires_key": not gateway.keys.is_open, "limits": limits}
    )
