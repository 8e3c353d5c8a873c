"""The commands of `decalage`, one module each: `HELP`, `add_arguments(parser)` and `run(args) -> exit status`.

A module may also have `USAGE`, the arguments after its name, and `EXAMPLES`, the lines at the end of its help.
`decalage --help` loads all modules, so they import slow packages inside their functions.
"""

from typing import Final, NamedTuple


class Group(NamedTuple):
    """Commands that belong together in the help, by the names of their modules."""

    title: str
    commands: tuple[str, ...]


GROUPS: Final = (
    Group("Start here", ("demo", "up", "doctor")),
    Group("Run the service", ("serve", "gateway", "drain", "send", "watch")),
    Group("Translate in this process, without Redis", ("generate", "compare", "live")),
    Group("Train and measure a model", ("train", "evaluate", "tune", "calibrate", "bench")),
    Group("Describe the wire protocol", ("schema",)),
)
"""All commands, in the order of the help."""
