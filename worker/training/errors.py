"""What can end a training run.

TrainingError
├── DataError        a file that cannot be used at all; single bad rows are counted and left out
├── CheckpointError  none there, or one of another run or another shape
└── LossError        the loss is no number any more
"""


class TrainingError(Exception):
    """Root of the trainer's errors."""


class DataError(TrainingError):
    """A file of parallel text has no usable rows, or is named in a way that cannot be read."""


class CheckpointError(TrainingError):
    """The checkpoint cannot carry this run on."""


class LossError(TrainingError):
    """The loss is not a finite number; the last checkpoint stays as it was."""
