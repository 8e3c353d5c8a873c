"""The policies, one file each, and `REGISTRY`, which maps a session's options to the class that carries them out."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from protocol import Session
from protocol import policies as wire
from worker.core.policies.adaptive import Adaptive
from worker.core.policies.align_att import AlignAtt
from worker.core.policies.local_agreement import LocalAgreement
from worker.core.policies.offline import Offline
from worker.core.policies.policy import Drawn, Policy
from worker.core.policies.wait_k import WaitK

REGISTRY: dict[type, Callable[[Any], Policy]] = {
    wire.WaitK: WaitK,
    wire.Adaptive: Adaptive,
    wire.AlignAtt: AlignAtt,
    wire.LocalAgreement: LocalAgreement,
}
"""The policy class for each kind of options that a session may have."""

_OFFLINE: Final = Offline()


def policy_of(session: Session) -> Policy:
    """Return the policy that a session's options ask for; without one, the default of models that name none.

    Raises ValueError for options that are not in the registry, which no event on the wire has.
    """
    if session.mode == "completion":
        return _OFFLINE
    options = session.policy or wire.DEFAULT_POLICY
    kind = type(options)
    if kind not in REGISTRY:
        known = ", ".join(sorted(known.__name__ for known in REGISTRY))
        raise ValueError(f"expected a policy of {known}, got {kind.__name__}; add it to worker.core.policies.REGISTRY")
    return _make(REGISTRY[kind], options)


@lru_cache(maxsize=256)  # equal options share a policy, so that equal sessions are equal
def _make(policy: Callable[[Any], Policy], options: wire.Policy) -> Policy:
    return policy(options)


__all__ = ["REGISTRY", "Drawn", "Policy", "policy_of"]
