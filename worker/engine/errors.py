"""What can be wrong with a model.

EngineError
├── ModelNotFound      no such directory, nor a hub model that can be had
├── UnsupportedModel   the model cannot be read or driven: broken files, no rotary positions, no plain KV cache, no
│                      usable tokenizer or prompt
└── UnsupportedPrompt  the model does not do what a prompt asks for (a ValueError too)
"""


class EngineError(Exception):
    """Root of the engine's errors."""


class ModelNotFound(EngineError):
    """Neither a model directory nor a hub model that is cached or can be downloaded."""


class UnsupportedModel(EngineError):
    """The model's files cannot be read, or its attention cannot be driven by a dual cache."""


class UnsupportedPrompt(EngineError, ValueError):
    """The model has not learned what the prompt asks for."""
