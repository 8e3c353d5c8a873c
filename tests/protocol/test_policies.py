"""Policies and their names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import (
    Adaptive,
    AlignAtt,
    InvalidEvent,
    LocalAgreement,
    Policy,
    Session,
    SessionCreate,
    WaitK,
    check,
    decode_client,
    encode,
)
from protocol.policies import parse_policy, policy_name

HUNDREDTHS = st.integers(0, 90).map(lambda n: n / 100)


@given(
    st.builds(WaitK, k=st.integers(1, 1000), catchup=HUNDREDTHS | HUNDREDTHS.map(lambda c: -c))
    | st.builds(Adaptive, min_k=st.integers(1, 9), max_k=st.integers(9, 99), threshold=HUNDREDTHS)
    | st.builds(LocalAgreement, k=st.integers(1, 9), max_ahead_tokens=st.integers(1, 99))
    | st.builds(AlignAtt, k=st.integers(1, 9), frame_words=st.integers(1, 99))
)
def test_a_name_names_its_policy(policy: Policy) -> None:
    """A policy can be had from its name, and may be asked for."""
    assert parse_policy(policy_name(policy)) == policy
    assert check(SessionCreate(session=Session(policy=policy)))


@pytest.mark.parametrize("name", ["", "wait", "wait-k", "wait--1", "adaptive-1-7", "Wait-3", "wait-3 ", "offline"])
def test_what_names_no_policy_is_told(name: str) -> None:
    """The error shows the forms that there are, and what came."""
    with pytest.raises(ValueError, match="wait-K, wait-K~CATCHUP, adaptive-MIN-MAX-THRESHOLD") as caught:
        parse_policy(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "param"),
    [
        ("wait-0", "k"),
        ("wait-3~1", "catchup"),
        ("adaptive-0-3-0.5", "min_k"),
        ("adaptive-1-3-1.5", "threshold"),
        ("align-att-1-0", "frame_words"),
    ],
)
def test_values_out_of_bounds_are_refused_by_the_protocol(name: str, param: str) -> None:
    """A name may hold any number; a session may not."""
    with pytest.raises(InvalidEvent) as caught:
        check(SessionCreate(session=Session(policy=parse_policy(name))))
    assert caught.value.param == f"$.session.policy.{param}"


def test_bounds_that_cross_are_refused() -> None:
    """An adaptive policy lags no less than min_k and no more than max_k, so these must leave room."""
    with pytest.raises(ValueError, match="max_k of at least min_k, 5, got 3"):
        parse_policy("adaptive-5-3-0.5")
    data = encode(SessionCreate(session=Session(policy=WaitK()))).replace(
        b'{"type":"wait-k","k":3,"catchup":0.0}', b'{"type":"adaptive","min_k":5,"max_k":3}'
    )
    with pytest.raises(InvalidEvent, match="max_k of at least min_k") as caught:
        decode_client(data)
    assert caught.value.param == "$.session.policy"
