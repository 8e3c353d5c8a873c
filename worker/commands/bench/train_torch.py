"""The baseline of `decalage bench train`: a plain PyTorch loop that computes what the trainer computes, in fp32.

The same network, positions, mask, labels and rates, and PyTorch's own optimizer. It imports torch, so it is imported
only where that is installed.
"""

from time import perf_counter

import torch
from torch import nn

from worker.commands.bench.train_steps import Ours, Step, torch_name
from worker.training.loop import Pass
from worker.training.mlx_backend import Weights
from worker.training.recipe import Recipe
from worker.training.start import architecture
from worker.training.torch_network import Network, Sizes, Tensors, tensors


class TorchLoop:
    """A model with the present weights of ours and its optimizer on the CPU."""

    tolerance = 1e-3

    def __init__(self, plan: Recipe, ours: Ours) -> None:
        self.library = torch_name()
        self._plan = plan
        self._network = Network(Sizes.of(architecture(plan.shape, plan.shape.vocabulary)))
        weights = Weights(ours.model.inner).items()
        self._network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights})
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), betas=(0.9, 0.98), weight_decay=plan.weight_decay, fused=True
        )
        self._steps = 0

    def step(self, chosen: Pass) -> Step:
        """A full step on this batch; putting it together is not measured, in PyTorch's favour."""
        batch = chosen.batch
        prepared = tensors(batch)
        start_s = perf_counter()
        loss = self._step(prepared, batch.num_labels)
        return Step(loss, batch.num_tokens, perf_counter() - start_s)

    def _step(self, batch: Tensors, num_labels: int) -> float:
        loss = self._network.loss_sum(batch, self._plan.label_smoothing) / num_labels
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._plan.max_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.rate(self._steps)
        self._optimizer.step()
        self._steps += 1
        return float(loss.detach())
