"""What can end a training run.

TrainingError
├── DataError        a file that cannot be used at all; single bad rows are counted and left out
├── PackError        a pack that is cut short, damaged, too large, or of another version
├── DeviceError      an accelerator that is not there, or one that cannot do what the run needs
├── CheckpointError  none there, or one of another run or another shape
└── LossError        the loss is no number any more
"""


class TrainingError(Exception):
    """Root of the trainer's errors."""


class DataError(TrainingError):
    """A file of parallel text has no usable rows, or is named in a way that cannot be read."""


class PackError(TrainingError):
    """The pre-tokenised file cannot be used, or not be made."""


class DeviceError(TrainingError):
    """The device cannot train this."""


class CheckpointError(TrainingError):
    """The checkpoint cannot carry this run on."""


class LossError(TrainingError):
    """The loss is not a finite number; the last checkpoint stays as it was."""
