"""The dual cache's surface of the documents: source and target are appended apart, whatever their order."""

import mlx.core as mx

from worker.engine.kv.dual_cache import DualStreamingCache


def _arrays(*values: int) -> tuple[mx.array, mx.array]:
    keys = mx.array(values, mx.float32).reshape(1, 1, -1, 1)
    return keys, -keys


def _values(pair: tuple[mx.array, mx.array]) -> list[float]:
    keys, values = pair
    assert (keys == -values).all().item()
    held: list[float] = keys.reshape(-1).tolist()  # type: ignore[assignment]
    return held


def test_source_and_target_are_appended_apart() -> None:
    """A read returns the source alone, a write all there is, in order of arrival; a target taken back is gone."""
    cache = DualStreamingCache()
    assert _values(cache.update_source(*_arrays(1, 2))) == [1, 2]
    assert _values(cache.update_target(*_arrays(10))) == [1, 2, 10]
    assert _values(cache.update_source(*_arrays(3))) == [1, 2, 3]
    assert _values(cache.update_target(*_arrays(11, 12))) == [1, 2, 10, 3, 11, 12]
    assert (cache.source_offset, cache.target_offset) == (3, 3)
    assert cache.trim_target(2) == 2
    assert _values(cache.update_source(*_arrays(4))) == [1, 2, 3, 4]
    cache.reset_target()
    assert (cache.source_offset, cache.target_offset) == (4, 0)
    assert _values(cache.update_target(*_arrays(20))) == [1, 2, 3, 4, 20]
