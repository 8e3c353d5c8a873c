"""Policies by the names that results carry: `offline`, `wait-3`, …; `wait-3-oracle` is wait-3 with re-encoding."""

from msgspec.structs import replace

import protocol
from protocol import Policy, Session, WaitK, parse_policy

OFFLINE = "offline"
_ORACLE = "-oracle"


def offline(session: Session) -> Session:
    """The session that reads everything before it writes.

    >>> offline(Session()).mode
    'completion'
    """
    return replace(session, mode="completion")


def wait_k(session: Session, k: int) -> Session:
    """The session that writes k words behind its source.

    >>> wait_k(Session(), 5).policy
    WaitK(k=5, catchup=0.0)
    """
    return streaming(session, WaitK(k=k))


def streaming(session: Session, policy: Policy) -> Session:
    """The session that writes while it reads, as the policy says."""
    return replace(session, mode="streaming", policy=policy)


def policy_name(session: Session) -> str:
    """How the results of this session's policy are called.

    >>> policy_name(offline(Session())), policy_name(Session())
    ('offline', 'wait-3')
    """
    return OFFLINE if session.mode == "completion" else protocol.policy_name(session.policy)


def named(session: Session, name: str) -> Session:
    """The session whose results carry this name; `wait-3-oracle` is the session of `wait-3`.

    Raises ValueError for what names no policy.

    >>> named(Session(), "wait-5-oracle").policy, named(Session(), "offline").mode
    (WaitK(k=5, catchup=0.0), 'completion')
    """
    return offline(session) if name == OFFLINE else streaming(session, parse_policy(name.removesuffix(_ORACLE)))


def oracle_name(policy: str) -> str:
    """How the results of a policy are called where earlier target words are encoded again.

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
