"""Functions that mlx-lm's layers call by name, replaced in the layers of one model and nowhere else.

A layer gets a subclass of its own class, whose methods are the same code with other globals. mlx-lm's modules, and the
other models of the process, stay as they are.
"""

from collections.abc import Callable, Iterator
from functools import update_wrapper
from types import CodeType, FunctionType
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten

Function = Callable[..., Any]


def rebind(model: nn.Module, original: Function, replacement: Function) -> int:
    """Make the model's modules call `replacement` where their methods call `original`, a function of their module's
    globals; return the number of modules that do. Modules without weights stay: models may share them, as a default
    argument.
    """
    subclasses: dict[type[nn.Module], type[nn.Module] | None] = {}
    num_rebound = 0
    for module in model.modules():
        kind = type(module)
        if kind not in subclasses:
            subclasses[kind] = _subclass(kind, original, replacement)
        if (subclass := subclasses[kind]) is not None and tree_flatten(module.parameters()):
            module.__class__ = subclass
            num_rebound += 1
    return num_rebound


def _subclass(kind: type[nn.Module], original: Function, replacement: Function) -> type[nn.Module] | None:
    methods: dict[str, FunctionType] = {}
    for base in reversed(kind.__mro__):  # the nearest definition of a method is the one that is called
        methods |= {name: value for name, value in vars(base).items() if isinstance(value, FunctionType)}
    calls = {name: [n for n in _names(method.__code__) if method.__globals__.get(n) is original]
             for name, method in methods.items()}  # fmt: skip
    rebound = {
        name: _with_globals(methods[name], dict.fromkeys(names, replacement)) for name, names in calls.items() if names
    }
    namespace = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**namespace, **rebound}) if rebound else None


def _with_globals(function: FunctionType, names: dict[str, Function]) -> FunctionType:
    copied = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    update_wrapper(copied, function)
    return copied


def _names(code: CodeType) -> Iterator[str]:
    # The names that the code, and the functions within it, look up.
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
