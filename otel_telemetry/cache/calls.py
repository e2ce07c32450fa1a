"""What a function is called with, by the names of its parameters: `f(1)`, `f(a=1)` and a default of 1 are one call."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

_PLAIN: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Signature:
    """The parameters of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        self._plain = all(parameter.kind in _PLAIN for parameter in parameters)
        self._positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        self._names = frozenset(p.name for p in parameters)
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return every argument by name, or None where the function cannot be called like that."""
        if self._plain and len(args) <= len(self._positional):
            named = dict(zip(self._positional, args, strict=False))
            if not named.keys() & kwargs.keys():
                found = {**self._defaults, **named, **kwargs}
                if found.keys() == self._names:
                    return found
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return None
        bound.apply_defaults()
        return dict(bound.arguments)
