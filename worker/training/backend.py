"""What the loop needs of the library that computes: gradients, steps, a mean of weights, arrays for a checkpoint."""

from collections.abc import Mapping
from typing import Any, Protocol, SupportsFloat

from numpy.typing import NDArray

from worker.training.pairs import Batch

Arrays = dict[str, NDArray[Any]]


class Backend(Protocol):
    """A model in training with its optimizer. Gradients add up until `update` uses them."""

    @property
    def position_offset(self) -> int:
        """φ, the position of the first target token."""
        ...

    def seed(self, number: int) -> None:
        """Make what the next passes drop depend on this number."""
        ...

    def add_gradients(self, batch: Batch, label_smoothing: float) -> SupportsFloat:
        """Add the gradients of a batch, and return its loss in nats, summed over the labels.

        To read it may wait for the device.
        """
        ...

    def update(self, rate: float, num_labels: int, max_norm: float) -> float:
        """Make a step along the mean gradient of `num_labels`, clipped to `max_norm`, and return its norm before.

        A norm that is not finite changes no weights. Either way the gradients begin anew.
        """
        ...

    def loss_sum(self, batch: Batch) -> float:
        """The loss of a batch in nats, summed over the labels, without dropout and smoothing."""
        ...

    def average(self, count: int) -> None:
        """Add the present weights to the mean as the `count`-th, from 1."""
        ...

    def use_mean(self) -> bool:
        """Put the mean in the place of the weights, and tell whether there is one."""
        ...

    def arrays(self) -> Arrays:
        """All that a checkpoint holds, by names of `worker.training.checkpoint`."""
        ...

    def set_arrays(self, arrays: Arrays) -> None:
        """Take over what `arrays` gave."""
        ...

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights that are trained, by name."""
        ...

    def result(self) -> Mapping[str, NDArray[Any]]:
        """All weights of the model, fp32, adapters fused; the training cannot go on behind it."""
        ...
