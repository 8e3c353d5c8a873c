"""The Qwen2 architecture in PyTorch, computing what mlx-lm's does, with its names of weights.

Embedding, RMSNorm, rotary attention with biases, SwiGLU, a head that may be tied; logits only where something is
predicted. It imports torch, so it is imported only where that is wanted.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn import functional

from worker.training.pairs import Batch

_UNSEEN = -1e9


class Tensors(msgspec.Struct, frozen=True):
    """A batch as torch tensors, the mask ready."""

    tokens: Any  # (B, T)
    positions: Any  # (B, T)
    bias: Any  # (B, 1, T, T) float32, added to the scores: 0 where a query sees a key
    queries: Any  # (Q,)
    labels: Any  # (Q,)
    weights: Any  # (Q,)


class Sizes(msgspec.Struct, frozen=True):
    """What a config tells of a Qwen2 model."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    rms_norm_eps: float
    rope_theta: float = 1_000_000.0
    tie_word_embeddings: bool = True

    @staticmethod
    def of(config: Mapping[str, Any]) -> "Sizes":
        """Return the sizes in a config.json, other entries left out."""
        return msgspec.convert(config, Sizes)


def tensors(batch: Batch, device: Any = "cpu") -> Tensors:
    """Return the batch as tensors on the device, with the mask of `objective.batch_mask`."""
    ranks, visible_source, visible_target = (
        _tensor(array, device) for array in (batch.ranks, batch.visible_source, batch.visible_target)
    )
    keys = ranks[:, None, :]
    mask = (keys < visible_source[..., None]) & (keys >= -visible_target[..., None])  # (B, T, T)
    if batch.pairs is not None:
        pairs = _tensor(batch.pairs, device)
        mask &= pairs[:, :, None] == pairs[:, None, :]
    return Tensors(
        tokens=_tensor(batch.tokens, device),
        positions=_tensor(batch.positions, device),
        bias=torch.where(mask, 0.0, _UNSEEN)[:, None],
        queries=_tensor(batch.queries, device),
        labels=_tensor(batch.labels, device).long(),
        weights=_tensor(batch.weights, device),
    )


def _tensor(array: Any, device: Any) -> Any:
    return torch.from_numpy(array).to(device)


class Network(nn.Module):  # type: ignore[misc]  # untyped, as torch may be missing
    """A model of these sizes with random weights; in training mode it drops that share of the embedding's output and
    of what attention and MLP add.
    """

    def __init__(self, args: Sizes, dropout: float = 0.0) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.model.layers = nn.ModuleList(_Layer(args, dropout) for _ in range(args.num_hidden_layers))
        self.model.norm = _norm(args)
        if not args.tie_word_embeddings:
            self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)
        nn.init.normal_(self.model.embed_tokens.weight, std=args.hidden_size**-0.5)
        half = args.hidden_size // args.num_attention_heads // 2
        self.register_buffer("_frequencies", args.rope_theta ** -(torch.arange(half) / half), persistent=False)
        self._dropout = nn.Dropout(dropout)
        self._cross_entropy = _cross_entropy

    def compile_parts(self) -> None:
        """Compile what a pass runs often: a layer, once for all of them, and the loss. Every batch is of one shape."""
        for layer in self.model.layers:
            layer.compile(dynamic=False)
        self._cross_entropy = torch.compile(_cross_entropy, dynamic=False)

    def forward(self, batch: Tensors) -> Any:
        """Hidden states (Q, hidden) that predict the labels."""
        angles = (batch.positions[..., None] * self._frequencies)[:, None, None]  # (B, 1, 1, T, D / 2)
        turn = (angles.cos(), angles.sin())
        bias = batch.bias[:, None]
        x = self._dropout(self.model.embed_tokens(batch.tokens))
        for layer in self.model.layers:
            x = layer(x, turn, bias)
        return self.model.norm(x.flatten(0, 1)[batch.queries])

    def loss_sum(self, batch: Tensors, label_smoothing: float) -> Any:
        """The cross entropy in nats, summed over the labels; smoothing shares that mass over the whole vocabulary."""
        head = self.lm_head if hasattr(self, "lm_head") else self.model.embed_tokens
        return self._cross_entropy(self(batch), head.weight, batch.labels, batch.weights, label_smoothing)


def _cross_entropy(hidden: Any, head: Any, labels: Any, weights: Any, label_smoothing: float) -> Any:
    logits = functional.linear(hidden, head).float()  # (Q, V)
    each = functional.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
    return (each * weights).sum()


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, args: Sizes, dropout: float) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = _norm(args), _norm(args)
        self.self_attn, self.mlp = _Attention(args), _Mlp(args)
        self._dropout = nn.Dropout(dropout)

    def forward(self, x: Any, turn: tuple[Any, Any], bias: Any) -> Any:
        """(B, T, hidden)."""
        x = x + self._dropout(self.self_attn(self.input_layernorm(x), turn, bias))
        return x + self._dropout(self.mlp(self.post_attention_layernorm(x)))


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, args: Sizes) -> None:
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
        if x.is_cuda:
            heads = (part.expand(queries.shape).flatten(1, 2) for part in (queries, keys, values))
            read = functional.scaled_dot_product_attention(*heads, attn_mask=bias[:, 0].to(values.dtype))
            return self.o_proj(read.transpose(1, 2).flatten(2))
        # By hand: in bf16 on a CPU, torch's own function takes longer.
        scores = (queries @ keys.transpose(-1, -2)).float() * self._size**-0.5 + bias
        read = scores.softmax(-1).to(values.dtype) @ values
        return self.o_proj(read.permute(0, 3, 1, 2, 4).flatten(2))


class _Mlp(nn.Module):  # type: ignore[misc]
    def __init__(self, args: Sizes) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(args.hidden_size, args.intermediate_size, bias=False)
        self.up_proj = nn.Linear(args.hidden_size, args.intermediate_size, bias=False)
        self.down_proj = nn.Linear(args.intermediate_size, args.hidden_size, bias=False)

    def forward(self, x: Any) -> Any:
        """(B, T, hidden)."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def _norm(args: Sizes) -> Any:
    return nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)


def _turned(x: Any, turn: tuple[Any, Any]) -> Any:
    # (…, T, D): the first half of a head is turned with the second.
    cos, sin = turn
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)
