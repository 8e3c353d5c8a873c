"""Errors of a model.

EngineError
├── ModelNotFound      no such directory, and no such hub model to load
├── UnsupportedModel   the model cannot be read or driven: broken files, no rotary positions, no plain KV cache, no
│                      usable tokenizer or prompt
└── UnsupportedPrompt  the model does not do what a prompt asks for (a ValueError too)
"""


class EngineError(Exception):
    """Root of the engine's errors."""


class ModelNotFound(EngineError):
    """There is no such model directory, and no such hub model in the cache or to download."""


class UnsupportedModel(EngineError):
    """The model's files cannot be read, or its attention cannot be driven by a dual cache."""


class UnsupportedPrompt(EngineError, ValueError):
    """The model has not learned what the prompt asks for."""
