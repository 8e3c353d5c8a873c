"""Local agreement: what two translations have in common, from their beginning."""

from protocol import policies as wire
from worker.core.policies.local_agreement import LocalAgreement


def test_what_both_begin_with_is_confirmed() -> None:
    """Up to the first difference, the shorter one's end, or nothing at all."""
    policy = LocalAgreement(wire.LocalAgreement(max_ahead_tokens=5))
    assert policy.max_ahead_tokens == 5
    assert [policy.num_confirmed(draft, (4, 5, 6)) for draft in ((4, 5, 7), (4, 5), (9,), ())] == [2, 2, 0, 0]
