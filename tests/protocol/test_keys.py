"""Keys round trip, shards are stable, ids are checked."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import InvalidSessionId, keys
from protocol.keys import NUM_SHARDS, check_session_id, session_of, shard_of, source_key, state_key, target_key
from protocol.limits import MAX_SESSION_ID_BYTES

law = settings(deadline=None)
IDS = st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=MAX_SESSION_ID_BYTES)


@law
@given(session_id=IDS)
def test_a_source_key_names_its_session(session_id: str) -> None:
    """session_of(source_key(id)) == id, as text and as the bytes that Redis returns."""
    assert session_of(source_key(session_id)) == session_id
    assert session_of(source_key(session_id).encode()) == session_id


@law
@given(session_id=IDS)
def test_all_keys_of_a_session_share_one_hash_tag(session_id: str) -> None:
    """What Redis hashes, the text between the first braces, is the id: one node, one script."""
    for key in (source_key(session_id), target_key(session_id), state_key(session_id)):
        assert key[key.index("{") + 1 : key.index("}")] == session_id


@pytest.mark.parametrize(
    "key",
    [
        "",
        "decalage:talk:source",
        "decalage:{talk}:target",
        "x:decalage:{talk}:source",
        "decalage:{talk}:source\n",
        "decalage:{}:source",
        "decalage:{a}b}:source",
        b"decalage:{\xff}:source",
    ],
)
def test_other_keys_name_no_session(key: str | bytes) -> None:
    """A key that our naming did not make is refused, not guessed at."""
    with pytest.raises(InvalidSessionId):
        session_of(key)


@law
@given(session_id=IDS)
def test_good_ids_pass_unchanged(session_id: str) -> None:
    """check_session_id(id) == id."""
    assert check_session_id(session_id) == session_id


@pytest.mark.parametrize(
    "session_id", ["", "a b", "a\n", "a}", "{a", "é", "a/b", "*", "a" * (MAX_SESSION_ID_BYTES + 1)]
)
def test_bad_ids_are_told_the_rule(session_id: str) -> None:
    """The message says which characters and how many are allowed."""
    with pytest.raises(InvalidSessionId, match="1 to 128 characters out of A-Z a-z 0-9") as caught:
        check_session_id(session_id)
    assert caught.value.code == "invalid_session_id"


def test_the_longest_id_passes() -> None:
    """The bound itself is allowed."""
    check_session_id("a" * MAX_SESSION_ID_BYTES)


@law
@given(session_id=IDS, num_shards=st.integers(1, 1024))
def test_a_shard_is_in_range_and_stable(session_id: str, num_shards: int) -> None:
    """Each session has one shard below the number of shards."""
    assert 0 <= shard_of(session_id, num_shards) < num_shards
    assert shard_of(session_id, num_shards) == shard_of(session_id, num_shards)


def test_shards_are_those_of_crc32() -> None:
    """Other languages compute the same: crc32("123456789") is the published check value 0xCBF43926."""
    assert shard_of("123456789", 2**32) == 0xCBF43926


def test_shards_spread_sessions() -> None:
    """Of 1,600 numbered sessions every shard gets between half and twice its share."""
    counts = [0] * NUM_SHARDS
    for number in range(1_600):
        counts[shard_of(f"session-{number}")] += 1
    assert min(counts) >= 50
    assert max(counts) <= 200


def test_the_layout_at_the_top_names_every_key() -> None:
    """The drawing in the docstring is the layout in use."""
    layout = keys.__doc__ or ""
    used = [source_key("ID"), target_key("ID"), state_key("ID"), keys.CONFIGURE_KEY, keys.STATS_KEY]
    used += [keys.LIVE_KEY, keys.FREED_KEY, keys.SHARDS_KEY, keys.DEAD_KEY]
    used += [key_of(7).replace("7", "N") for key_of in (keys.bell_key, keys.lease_key)]
    assert all(key in layout for key in used)
    assert f"mod {NUM_SHARDS}" in layout


def test_the_pattern_is_the_source_key_of_any_session() -> None:
    """SCAN with the pattern finds source streams only."""
    assert source_key("*") == keys.SOURCE_PATTERN
