"""The Qwen2 architecture in PyTorch, computing what mlx-lm's does, with its names of weights.

Embedding, RMSNorm, rotary attention with biases, SwiGLU, a head that may be tied; logits only where something is
predicted. It imports torch, so it is imported only where that is wanted.
"""

from typing import Any

import msgspec
import numpy as np
import torch
from mlx_lm.models.qwen2 import ModelArgs
from torch import nn
from torch.nn import functional

from worker.training.objective import Batch

_UNSEEN = -1e9


class Tensors(msgspec.Struct, frozen=True):
    """A batch as torch tensors, the mask ready."""

    tokens: Any  # (B, T)
    positions: Any  # (B, T)
    bias: Any  # (B, 1, T, T) float32, added to the scores: 0 where a query sees a key
    queries: Any  # (Q,)
    labels: Any  # (Q,)
    weights: Any  # (Q,)


def tensors(batch: Batch) -> Tensors:
    """Return the batch as tensors."""
    return Tensors(
        tokens=_tensor(batch.tokens),
        positions=_tensor(batch.positions),
        bias=torch.where(_tensor(batch.mask), 0.0, _UNSEEN),
        queries=_tensor(batch.queries),
        labels=_tensor(batch.labels).long(),
        weights=_tensor(batch.weights),
    )


def _tensor(array: Any) -> Any:
    return torch.from_numpy(np.array(array))


class Network(nn.Module):  # type: ignore[misc]  # untyped, as torch may be missing
    """A model of these sizes with random weights; in training mode it drops that share of the embedding's output and
    of what attention and MLP add.
    """

    def __init__(self, args: ModelArgs, dropout: float = 0.0) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.model.layers = nn.ModuleList(_Layer(args, dropout) for _ in range(args.num_hidden_layers))
        self.model.norm = _norm(args)
        if not args.tie_word_embeddings:
            self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)
        half = args.hidden_size // args.num_attention_heads // 2
        self._frequencies = args.rope_theta ** -(torch.arange(half) / half)
        self._dropout = nn.Dropout(dropout)

    def forward(self, batch: Tensors) -> Any:
        """Logits (Q, V)."""
        angles = (batch.positions[..., None] * self._frequencies)[:, None, None]  # (B, 1, 1, T, D / 2)
        turn = (angles.cos(), angles.sin())
        bias = batch.bias[:, None]
        x = self._dropout(self.model.embed_tokens(batch.tokens))
        for layer in self.model.layers:
            x = layer(x, turn, bias)
        chosen = self.model.norm(x.flatten(0, 1)[batch.queries])
        head = self.lm_head if hasattr(self, "lm_head") else self.model.embed_tokens
        return functional.linear(chosen, head.weight)

    def loss_sum(self, batch: Tensors, label_smoothing: float) -> Any:
        """The cross entropy in nats, summed over the labels; smoothing shares that mass over the whole vocabulary."""
        each = functional.cross_entropy(
            self(batch).float(), batch.labels, label_smoothing=label_smoothing, reduction="none"
        )
        return (each * batch.weights).sum()


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, args: ModelArgs, dropout: float) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = _norm(args), _norm(args)
        self.self_attn, self.mlp = _Attention(args), _Mlp(args)
        self._dropout = nn.Dropout(dropout)

    def forward(self, x: Any, turn: tuple[Any, Any], bias: Any) -> Any:
        """(B, T, hidden)."""
        x = x + self._dropout(self.self_attn(self.input_layernorm(x), turn, bias))
        return x + self._dropout(self.mlp(self.post_attention_layernorm(x)))


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self._groups, self._size = args.num_key_value_heads, args.hidden_size // args.num_attention_heads
        shared = self._groups * self._size
        self.q_proj = nn.Linear(args.hidden_size, args.hidden_size)
        self.k_proj, self.v_proj = (nn.Linear(args.hidden_size, shared) for _ in range(2))
        self.o_proj = nn.Linear(args.hidden_size, args.hidden_size, bias=False)

    def forward(self, x: Any, turn: tuple[Any, Any], bias: Any) -> Any:
        """(B, T, hidden)."""
        # (B, G, R, T, D): R heads of queries share the keys and values of each of G groups.
        projected = (project(x) for project in (self.q_proj, self.k_proj, self.v_proj))
        queries, keys, values = (
            part.unflatten(-1, (self._groups, -1, self._size)).permute(0, 2, 3, 1, 4) for part in projected
        )
        queries, keys = (_turned(part, turn).to(values.dtype) for part in (queries, keys))
        # By hand: in bf16 on a CPU, torch's own function takes longer.
        scores = (queries @ keys.transpose(-1, -2)).float() * self._size**-0.5 + bias
        read = scores.softmax(-1).to(values.dtype) @ values
        return self.o_proj(read.permute(0, 3, 1, 2, 4).flatten(2))


class _Mlp(nn.Module):  # type: ignore[misc]
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(args.hidden_size, args.intermediate_size, bias=False)
        self.up_proj = nn.Linear(args.hidden_size, args.intermediate_size, bias=False)
        self.down_proj = nn.Linear(args.intermediate_size, args.hidden_size, bias=False)

    def forward(self, x: Any) -> Any:
        """(B, T, hidden)."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def _norm(args: ModelArgs) -> Any:
    return nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)


def _turned(x: Any, turn: tuple[Any, Any]) -> Any:
    # (…, T, D): the first half of a head is turned with the second.
    cos, sin = turn
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)
