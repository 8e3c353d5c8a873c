"""The objective with gradients by PyTorch: matrix products in bf16, sums, norms, softmax and loss in fp32.

On a CPU with instructions for bf16 (avx512_bf16, amx_bf16) that is about twice as fast as fp32. Weights, optimizer and
validation stay mlx's own, in fp32.
"""

from typing import Any

import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_unflatten

from worker.engine.model import StreamingModel
from worker.training.checkpoint import weights_of
from worker.training.objective import Batch, Objective
from worker.training.torch_network import Network, tensors


class TorchObjective(Objective):
    """The objective of one model of the Qwen2 architecture; its gradients are of passes that drop that share.

    `has_bf16` false: products in fp32 too.
    """

    def __init__(self, model: StreamingModel, dropout: float = 0.0, *, has_bf16: bool = True) -> None:
        super().__init__(model)
        self._network = Network(model.inner.args, dropout)
        self._has_bf16 = has_bf16

    def seed(self, number: int) -> None:
        """What the next passes drop depends on this number."""
        torch.manual_seed(number)

    def loss_and_gradients(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[mx.array, Any]:
        """The cross entropy of this pass in nats, summed over the labels, and its gradients by the model's parameters,
        as a tree.
        """
        network = self._network
        fresh = weights_of(self.model.inner).items()
        network.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in fresh})
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._has_bf16):
            loss = network.loss_sum(tensors(batch), label_smoothing)
        names, parameters = zip(*network.named_parameters(), strict=True)
        gradients = (mx.array(gradient.numpy()) for gradient in torch.autograd.grad(loss, parameters))
        return mx.array(loss.item()), tree_unflatten(list(zip(names, gradients, strict=True)))
