"""HTTP, server-sent events and WebSocket in front of Redis. Needs the extra `gateway`; knows only `protocol` and Redis.

No session has state here: any instance serves any session. `producers.gateway.server.serve` runs it.
"""
