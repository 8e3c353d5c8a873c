"""Policies by their names in results: `offline`, `wait-3`, …; `wait-3-oracle` is wait-3 with re-encoding."""

from msgspec.structs import replace

import protocol
from protocol import DEFAULT_POLICY, Policy, Session, WaitK, parse_policy

OFFLINE = "offline"
_ORACLE = "-oracle"


def offline(session: Session) -> Session:
    """Return the session with the offline policy: read everything, then write.

    >>> offline(Session()).mode
    'completion'
    """
    return replace(session, mode="completion")


def wait_k(session: Session, k: int) -> Session:
    """Return the session with the policy wait-k.

    >>> wait_k(Session(), 5).policy
    WaitK(k=5, catchup=0.0)
    """
    return streaming(session, WaitK(k=k))


def streaming(session: Session, policy: Policy) -> Session:
    """Return the session with this streaming policy."""
    return replace(session, mode="streaming", policy=policy)


def policy_name(session: Session) -> str:
    """Return the name that results of this session's policy carry.

    >>> policy_name(offline(Session())), policy_name(Session())
    ('offline', 'wait-3')
    """
    return OFFLINE if session.mode == "completion" else protocol.policy_name(session.policy or DEFAULT_POLICY)


def named(session: Session, name: str) -> Session:
    """Return the session whose results carry this name; `wait-3-oracle` is the session of `wait-3`.

    Raises ValueError for a name of no policy.

    >>> named(Session(), "wait-5-oracle").policy, named(Session(), "offline").mode
    (WaitK(k=5, catchup=0.0), 'completion')
    """
    return offline(session) if name == OFFLINE else streaming(session, parse_policy(name.removesuffix(_ORACLE)))


def oracle_name(policy: str) -> str:
    """Return the name that results of a policy carry with the re-encode oracle.

    >>> oracle_name("wait-3")
    'wait-3-oracle'
    """
    return policy + _ORACLE


def is_oracle(policy: str) -> bool:
    """Tell whether results of this name come from the re-encode oracle.

    >>> is_oracle("wait-3-oracle"), is_oracle("wait-3")
    (True, False)
    """
    return policy.endswith(_ORACLE)
