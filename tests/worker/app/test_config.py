"""The settings of a worker: from variables, from options, and refused by name where they are not valid."""

import re
from typing import Any

import pytest
import redis

from worker.app.config import BadSetting, Settings, from_environment


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("max_sessions", 7, "7"),
        ("metrics_port", -1, "-1"),
        ("kv_bits", 8, "8"),
        ("use_speculative", False, "false"),
        ("redis", "redis://h", "redis://h"),
    ],
)
def test_variables_and_options(setting: str, value: Any, text: str) -> None:
    """A variable's text becomes a value; an option goes before it, unless it is None."""
    environment = {f"DECALAGE_{setting.upper()}": text, "PATH": "/bin"}
    assert from_environment(environment) == Settings(**{setting: value})
    assert from_environment(environment, **{setting: None}) == Settings(**{setting: value})
    assert from_environment({f"DECALAGE_{setting.upper()}": text}, model="m") == Settings(model="m", **{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_sessions", 0),
        ("max_batch_size", -3),
        ("max_kv_bytes", 0),
        ("metrics_port", 70_000),
        ("metrics_port", -2),
        ("lease_ms", 0),
        ("num_shards", 0),
        ("drain_ms", -1),
        ("kv_bits", 5),
        ("max_draft_tokens", 65),
        ("max_pass_tokens", 1),
        ("batch_timeout_ms", 60_000),
    ],
)
def test_values_out_of_range(setting: str, value: int) -> None:
    """The setting or its variable, and the value, are named before anything starts."""
    with pytest.raises(BadSetting, match=f"^{setting}={value}: "):
        Settings(**{setting: value})  # type: ignore[arg-type]
    variable = f"DECALAGE_{setting.upper()}"
    with pytest.raises(BadSetting, match=f"^{variable}='{value}': .*; unset it or correct it$"):
        from_environment({variable: str(value)})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_sessions", "7"), ("lease_ms", 0.5), ("use_speculative", 1), ("model", None), ("redis", b"redis://h")],
)
def test_values_of_another_type(setting: str, value: Any) -> None:
    """The type that is expected, and the one that was given."""
    with pytest.raises(BadSetting, match=f"^{setting}.*Expected `.*`, got `"):
        Settings(**{setting: value})


def test_no_password_is_shown() -> None:
    """A client in the place of the URL is named by its type."""
    with pytest.raises(BadSetting, match=re.escape("redis: Expected `str`, got `Redis`")):
        Settings(redis=redis.Redis(password="s3cret"))  # type: ignore[arg-type]
