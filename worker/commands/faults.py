"""The errors that users can cause, as a code and a message; and the error that commands raise."""

import errno
from typing import Final, NamedTuple


class CommandError(Exception):
    """A command cannot run as asked; the message names the cause and the remedy."""

    def __init__(self, message: str, *, code: str = "invalid_input") -> None:
        super().__init__(message)
        self.code = code


class Fault(NamedTuple):
    """An error as users see it: a stable code for programs, one line for people."""

    code: str
    message: str


# By name, not by class, so that a look-up loads neither the modules nor the packages that they need.
_CODES: Final = {
    "worker.commands.faults.CommandError": "invalid_input",
    "worker.engine.errors.ModelNotFound": "model_not_found",
    "worker.engine.errors.UnsupportedModel": "unsupported_model",
    "worker.engine.errors.UnsupportedPrompt": "unsupported_prompt",
    "worker.engine.errors.EngineError": "engine_error",
    "worker.evaluation.errors.EvaluationError": "invalid_input",
    "worker.training.errors.DataError": "invalid_data",
    "worker.training.errors.CheckpointError": "no_checkpoint",
    "worker.training.errors.LossError": "loss_not_finite",
    "worker.training.errors.TrainingError": "training_error",
    "worker.io.client.RedisUnreachable": "redis_unreachable",
    "worker.io.leases.WrongShards": "wrong_shards",
    "worker.io.broker.BrokerError": "no_broker",
    "worker.io.health.PortTaken": "port_taken",
    "worker.app.config.BadSetting": "invalid_setting",
    "protocol.errors.ProtocolError": "invalid_event",
    "producers.errors.BrokerUnreachable": "redis_unreachable",
    "producers.gateway.auth.InvalidKeys": "invalid_keys",
    "producers.gateway.server.PortTaken": "port_taken",
    "producers.gateway.server.UnsafeHost": "unsafe_host",
    "producers.errors.UnreadableSource": "unreadable_source",
    "producers.errors.ProducerError": "producer_error",
    "redis.exceptions.RedisError": "redis_failed",
}
_UNWRITABLE: Final = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})
"""What the system answers where a standard stream cannot be written."""
EXTRAS: Final = {
    **dict.fromkeys(("fakeredis", "lupa"), "broker"),
    **dict.fromkeys(("matplotlib", "sacrebleu"), "eval"),
    **dict.fromkeys(("h11", "starlette", "uvicorn"), "gateway"),
    "websockets": "client",
    "torch": "torch",
}


def fault_of(error: BaseException) -> Fault:
    """Return the code and the message of an error; an error that no user can cause is reported as a bug."""
    while isinstance(error, BaseExceptionGroup):  # of several failed tasks, the first error counts
        error = error.exceptions[0]
    for kind in type(error).__mro__:
        code = _CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return Fault(str(getattr(error, "code", None) or code), _one_line(str(error)))
    match error:
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] not in ("worker", "producers", "protocol"):
            return _missing_package(name)
        case UnicodeDecodeError() | UnicodeEncodeError():
            return Fault("invalid_input", f"expected text in UTF-8, got some that is none ({error.reason})")
        case OSError(filename=str(path)):
            return Fault("file_error", f"{path}: {error.strerror}")
        case OSError(errno=number) if number in _UNWRITABLE:
            return Fault("output_error", f"cannot write the output: {error.strerror}; send it to another place")
    return Fault(
        "internal_error",
        f"{type(error).__name__}: {_one_line(str(error))}; this is a bug in Decalage, "
        "DECALAGE_TRACEBACK=1 shows where it happened",
    )


def _missing_package(name: str) -> Fault:
    top_level = name.partition(".")[0]
    extra = EXTRAS.get(top_level, "worker")
    return Fault(
        "missing_package",
        f"the package {top_level} is not installed, and this command needs it: pip install 'decalage[{extra}]'",
    )


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "no reason given"
