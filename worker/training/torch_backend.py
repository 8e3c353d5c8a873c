"""Training by PyTorch alone: the Qwen2 architecture, on an accelerator or a CPU, matrix products in bf16 or fp32.

Sums, norms, softmax, loss, weights and optimizer are in fp32 always.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file

from worker.training.backend import Arrays
from worker.training.checkpoint import MEAN, MODEL, OPTIMIZER, part
from worker.training.errors import DeviceError
from worker.training.pairs import Batch
from worker.training.recipe import Device, Precision, Recipe
from worker.training.torch_network import Network, Sizes, tensors

_FIRST_MOMENT, _SECOND_MOMENT, _STEP = "exp_avg", "exp_avg_sq", "step"
_AMPERE: Final = (8, 0)  # the first compute capability with bf16


class TorchBackend:
    """One model in training; see `worker.training.backend.Backend`."""

    def __init__(
        self, recipe: Recipe, config: Mapping[str, Any], weights: Mapping[str, Any] | None, position_offset: int
    ) -> None:
        self.position_offset = position_offset
        self._device = open_device(recipe.device, recipe.precision)
        self._precision = recipe.precision
        torch.manual_seed(recipe.seed)
        self._network = Network(Sizes.of(config), recipe.dropout)
        if weights is not None:
            self._network.load_state_dict({name: torch.as_tensor(array) for name, array in weights.items()})
        self._network.float().to(self._device)
        if self._device.type == "cuda":
            self._network.compile_parts()
        self._parameters = dict(self._network.named_parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), lr=0.0, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
        )
        self._mean: dict[str, Any] = {}

    def seed(self, number: int) -> None:
        """Set anew in each step, so that a run that resumes drops the same."""
        torch.manual_seed(number)

    def add_gradients(self, batch: Batch, label_smoothing: float) -> Any:
        """Add the gradients of a batch, and return its loss, which is not awaited here."""
        self._network.train()
        loss = self._loss(batch, label_smoothing)
        loss.backward()
        return loss.detach()

    def update(self, rate: float, num_labels: int, max_norm: float) -> float:
        """Make a step and return the norm of the mean gradient."""
        gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        torch._foreach_div_(gradients, num_labels)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), max_norm).item())
        if math.isfinite(norm):
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    def loss_sum(self, batch: Batch) -> float:
        """The loss of a batch."""
        self._network.eval()
        # Validations are few: compiling them would take longer than they do.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            return float(self._loss(batch, 0.0).item())

    def _loss(self, batch: Batch, label_smoothing: float) -> Any:
        is_half = self._precision == "bf16"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=is_half):
            return self._network.loss_sum(tensors(batch, self._device), label_smoothing)

    def average(self, count: int) -> None:
        """Add the present weights to the mean."""
        with torch.no_grad():
            if not self._mean:
                self._mean = {name: array.detach().clone() for name, array in self._parameters.items()}
            else:
                for name, array in self._parameters.items():
                    self._mean[name].lerp_(array, 1 / count)

    def use_mean(self) -> bool:
        """Put the mean in the place of the weights, if there is one."""
        self._network.load_state_dict(self._mean, strict=False)
        return bool(self._mean)

    def arrays(self) -> Arrays:
        """Weights, the optimizer's state, and the mean."""
        arrays = {MODEL + name: array for name, array in self._parameters.items()}
        for name, parameter in self._parameters.items():
            arrays |= {f"{OPTIMIZER}{kind}.{name}": array for kind, array in self._optimizer.state[parameter].items()}
        arrays |= {MEAN + name: array for name, array in self._mean.items()}
        return {name: array.detach().cpu().numpy() for name, array in arrays.items()}

    def set_arrays(self, arrays: Arrays) -> None:
        """Take over what `arrays` gave."""
        own = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        self._network.load_state_dict(part(own, MODEL))
        known, names = part(own, OPTIMIZER), list(self._parameters)
        state = self._optimizer.state_dict()
        state["state"] = {
            i: {kind: known[f"{kind}.{name}"] for kind in (_STEP, _FIRST_MOMENT, _SECOND_MOMENT)}
            for i, name in enumerate(names)
            if f"{_STEP}.{name}" in known
        }
        self._optimizer.load_state_dict(state)
        self._mean = {name: array.to(self._device) for name, array in part(own, MEAN).items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all weights."""
        return {name: tuple(array.shape) for name, array in self._parameters.items()}

    def result(self) -> Arrays:
        """All weights."""
        return {name: array.detach().float().cpu().numpy() for name, array in self._parameters.items()}


def open_device(device: Device, precision: Precision) -> Any:
    """The device of this name. Raises DeviceError for one that is not there or has no bf16."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(
                "--device cuda needs a CUDA GPU and a PyTorch built for it, and torch.cuda.is_available() is false "
                "here; check the driver with nvidia-smi, or train with --device cpu"
            )
        found = torch.cuda.get_device_capability()
        if precision == "bf16" and found < _AMPERE:
            raise DeviceError(
                f"bf16 needs a GPU of compute capability {_AMPERE[0]}.{_AMPERE[1]} or newer, "
                f"{torch.cuda.get_device_name()} has {found[0]}.{found[1]}; train with --precision fp32"
            )
        torch.set_float32_matmul_precision("high")
    return torch.device(device)


def read_weights(path: Path) -> dict[str, Any]:
    """The weights of a safetensors file of any type, in fp32."""
    return {name: array.float() for name, array in load_file(path).items()}
