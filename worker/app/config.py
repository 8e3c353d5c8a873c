"""The worker's settings, from `DECALAGE_*` variables and the command line."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from protocol.keys import NUM_SHARDS
from worker.core.scheduler import Budget

_RANGES: Final = {
    "metrics_port": Meta(ge=-1, le=65_535),
    "batch_timeout_ms": Meta(ge=0, le=10_000),
    "max_pass_tokens": Meta(ge=8),
    "max_draft_tokens": Meta(ge=1, le=64),
    "drain_ms": Meta(ge=0),
    "redis_wait_ms": Meta(ge=0),
}
_AT_LEAST_ONE: Final = Meta(ge=1)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a worker, with unit, default and purpose. Raises BadSetting for a value that is not valid."""

    redis: str = ""  # URL; empty: the embedded broker
    redis_wait_ms: int = 60_000  # how long a start waits for a Redis that does not answer
    model: str = "starter"  # shipped model, directory, GGUF file or hub id
    metrics_host: str = "127.0.0.1"  # address that serves metrics and health
    metrics_port: int = 9464  # 0: any free port, -1: none
    max_sessions: int = 2_000  # open sessions; beyond that, session.create is refused
    max_kv_bytes: int = 8 * 2**30  # keys and values; beyond that, waiting sessions lose theirs and get them back later
    kv_bits: Literal[0, 4, 8] = 0  # bits of each number in keys and values; 0: as the model computes them
    max_batch_size: int = 64  # sessions in one pass
    max_pass_tokens: int = 2_048  # tokens in one pass; longer texts are read in chunks
    batch_timeout_ms: int = 0  # how long an idle worker waits for a second session before it starts a pass
    draft_model: str = ""  # a smaller model with the same tokenizer; empty: drafts come from a session's own text
    use_speculative: bool = True  # drafts beyond the token that ends a word
    max_draft_tokens: int = 16  # drafts of one session in one pass, whatever it asks for
    num_shards: int = NUM_SHARDS  # shards of a deployment, fixed at its first start; clients use the same number
    lease_ms: int = 3_000  # how long the sessions of a dead worker wait for another one
    sweep_ms: int = 250  # how often to look for words of clients that ring no bell
    stats_ms: int = 5_000  # how often the worker reports statistics
    drain_ms: int = 500  # how long a worker goes on after SIGTERM; the next worker does the rest

    def __post_init__(self) -> None:
        """Raise BadSetting for a value of another type, or out of range."""
        for field in msgspec.structs.fields(self):
            _checked(field, getattr(self, field.name), field.name)

    def budget(self, *, has_drafter: bool) -> Budget:
        """Return the limits of a pass; `has_drafter`: the engine makes drafts of its own."""
        return Budget(
            max_rows=self.max_batch_size,
            max_pass_tokens=self.max_pass_tokens,
            max_draft_tokens=self.max_draft_tokens if self.use_speculative else 0,
            has_drafter=has_drafter,
        )


class BadSetting(ValueError):
    """A variable with a value that is not valid for its setting."""


def from_environment(environment: Mapping[str, str] = os.environ, **given: object) -> Settings:
    """Return the settings from `DECALAGE_<NAME>`, overridden by the `given` values but None. Raises BadSetting."""
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        variable = f"DECALAGE_{field.name.upper()}"
        if variable in environment:
            values[field.name] = _checked(field, environment[variable], variable, is_text=True)
    values.update({name: value for name, value in given.items() if value is not None})
    return Settings(**values)  # type: ignore[arg-type]


def _checked(field: msgspec.structs.FieldInfo, value: object, name: str, *, is_text: bool = False) -> Any:
    # Return the value of a setting, read from text if it is one. Raises BadSetting with the given name.
    kind = Annotated[int, _RANGES.get(field.name, _AT_LEAST_ONE)] if field.type is int else field.type
    try:
        return msgspec.convert(value, kind, strict=not is_text)
    except msgspec.ValidationError as error:
        shown = "" if field.name == "redis" else f"={value!r}"  # a URL may hold a password
        raise BadSetting(f"{name}{shown}: {error}; {'unset it or ' * is_text}correct it") from error
