"""Turns `pip freeze` lines on standard input into requirements.lock on standard output. Called by `make lock`."""

import sys
from typing import Final

HEADER: Final = """\
# Exact versions of everything that `make demo` and `make test` install: a constraints file for pip, as in
#     pip install -c requirements.lock -e '.[dev]'
# It covers Linux and macOS; markers tell where they differ. Regenerate it with `make lock`, never by hand.
"""
MLX_OF_OTHER_MACHINES: Final = {"mlx-metal": "darwin", "mlx-cpu": "linux", "mlx-cuda-13": "linux"}
"""Back ends of MLX and where they install; each has the version of `mlx` itself."""


def lock(frozen: list[str]) -> str:
    """The lock file's text for these `name==version` lines; any other line is a ValueError.

    A path or a URL there means that something came from outside the registry, which others cannot repeat.
    """
    pins: dict[str, str] = {}
    for line in filter(None, map(str.strip, frozen)):
        name, equals, version = line.partition("==")
        if not equals or "@" in line or "://" in line:
            raise ValueError(
                f"expected name==version, got {line!r}; install it from the registry and run `make lock` again"
            )
        pins[name] = f"{name}=={version}"
    mlx_version = pins["mlx"].partition("==")[2]
    for name, platform in MLX_OF_OTHER_MACHINES.items():
        pins[name] = f'{name}=={mlx_version} ; sys_platform == "{platform}"'
    return HEADER + "".join(f"{pins[name]}\n" for name in sorted(pins, key=str.lower))


if __name__ == "__main__":
    sys.stdout.write(lock(sys.stdin.readlines()))
