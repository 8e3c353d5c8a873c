"""The baseline of `decalage bench train`: a plain PyTorch loop that computes what the trainer computes.

The same architecture by the same names, so that our weights can be taken over: embedding, RMSNorm, rotary attention
with biases, SwiGLU, tied head. The same positions, mask, labels and optimizer; logits only where something is
predicted. It imports torch, so it is imported only where that is installed.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from worker.training.objective import Batch, attention_mask
from worker.training.recipe import Recipe, Shape
from worker.training.start import architecture


class Prepared(msgspec.Struct, frozen=True):
    """A batch as torch tensors, the mask ready."""

    tokens: Any  # (B, T)
    positions: Any  # (B, T)
    mask: Any  # (B, 1, T, T) bool, true where a query sees a key
    queries: Any  # (Q,)
    labels: Any  # (Q,)
    weights: Any  # (Q,)
    num_labels: int


class TorchLoop:
    """A model with these weights and its optimizer on the CPU."""

    library = f"PyTorch {torch.__version__}"

    def __init__(self, plan: Recipe, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._plan = plan
        self._network = _Network(plan.shape)
        self._network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), betas=(0.9, 0.98), weight_decay=plan.weight_decay, fused=True
        )
        self._steps = 0

    def prepare(self, batch: Batch) -> Prepared:
        """The batch as tensors."""
        return Prepared(
            tokens=_tensor(batch.tokens),
            positions=_tensor(batch.positions),
            mask=_tensor(attention_mask(batch.num_source, batch.seen)),
            queries=_tensor(batch.queries),
            labels=_tensor(batch.labels).long(),
            weights=_tensor(batch.weights),
            num_labels=batch.num_labels,
        )

    def step(self, batch: Prepared) -> float:
        """The loss in nats a label; the optimizer has made one step."""
        logits = self._network(batch)
        each = functional.cross_entropy(
            logits, batch.labels, label_smoothing=self._plan.label_smoothing, reduction="none"
        )
        loss = (each * batch.weights).sum() / batch.num_labels
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._plan.max_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.rate(self._steps)
        self._optimizer.step()
        self._steps += 1
        return float(loss.detach())


class _Network(nn.Module):  # type: ignore[misc]  # untyped, as torch may be missing
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.model.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.model.norm = _norm(shape)
        half = shape.hidden // shape.heads // 2
        base = architecture(shape, shape.vocabulary)["rope_theta"]
        self._frequencies = base ** -(torch.arange(half) / half)

    def forward(self, batch: Prepared) -> Any:
        """Logits (Q, V)."""
        angles = (batch.positions[..., None] * self._frequencies)[:, None]  # (B, 1, T, D / 2)
        turn = (angles.cos(), angles.sin())
        x = self.model.embed_tokens(batch.tokens)
        for layer in self.model.layers:
            x = layer(x, turn, batch.mask)
        chosen = x.flatten(0, 1)[batch.queries]
        return functional.linear(self.model.norm(chosen), self.model.embed_tokens.weight)


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = _norm(shape), _norm(shape)
        self.self_attn, self.mlp = _Attention(shape), _Mlp(shape)

    def forward(self, x: Any, turn: tuple[Any, Any], mask: Any) -> Any:
        """(B, T, hidden)."""
        x = x + self.self_attn(self.input_layernorm(x), turn, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(shape.hidden, shape.hidden) for _ in range(3))
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Any, turn: tuple[Any, Any], mask: Any) -> Any:
        """(B, T, hidden)."""
        projected = (project(x) for project in (self.q_proj, self.k_proj, self.v_proj))
        queries, keys, values = (part.unflatten(-1, (self._heads, -1)).transpose(1, 2) for part in projected)
        seen = functional.scaled_dot_product_attention(
            _turned(queries, turn), _turned(keys, turn), values, attn_mask=mask
        )
        return self.o_proj(seen.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x: Any) -> Any:
        """(B, T, hidden)."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def _norm(shape: Shape) -> Any:
    return nn.RMSNorm(shape.hidden, eps=architecture(shape, shape.vocabulary)["rms_norm_eps"])


def _turned(x: Any, turn: tuple[Any, Any]) -> Any:
    # (B, H, T, D): the first half of a head is turned with the second.
    cos, sin = turn
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)


def _tensor(array: Any) -> Any:
    return torch.from_numpy(np.array(array))
