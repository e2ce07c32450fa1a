"""OTEL_CONFIG_FILE: OpenTelemetry's declarative configuration, with what it leaves open made safe.

The SDK reads the file, with the package `opentelemetry-configuration`. Span and log processors cannot be named in it:
redaction is put in front of what it made afterwards (`assemble.start_sdk`). `request_log` can be named as an exporter.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from importlib import util
from pathlib import Path
from typing import Any

from opentelemetry.context import Context, get_current
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from wrapt import wrap_function_wrapper

from otel_telemetry.base.errors import ConfigurationError

VARIABLE = "OTEL_CONFIG_FILE"


def named() -> Path | None:
    """Return the file that the environment names, if it names one."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value else None


def check(path: Path) -> Any:
    """Return the file as the SDK reads it; raises ConfigurationError where it cannot be used."""
    if not util.find_spec("opentelemetry.configuration"):
        hint = "pip install 'otel-telemetry[config]', or unset it"
        raise ConfigurationError(VARIABLE, "the package opentelemetry-configuration is not installed", hint)
    from opentelemetry.configuration import load_config_file  # noqa: PLC0415  # an extra

    try:
        return load_config_file(str(path))
    except Exception as error:
        raise _refusal(path, error) from error


def start(configure: Callable[[], None]) -> None:
    """Let the SDK make its providers from the file; raises ConfigurationError where it cannot."""
    path = named() or Path()
    check(path)
    try:
        configure()
    except ConfigurationError:
        raise  # one of ours, about what stands under `request_log:`
    except Exception as error:
        raise _refusal(path, error) from error
    if get_global_textmap().extract({}) is None:
        set_global_textmap(_Unbroken(get_global_textmap()))


def lend(instrumentor: Any, options: Mapping[str, Any]) -> None:
    """Give an instrumentation that the file may start the options that only code can express; the file's win."""

    def instrument(wrapped: Callable[..., Any], instance: Any, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
        del instance
        return wrapped(*args, **{**options, **kwargs})

    wrap_function_wrapper(instrumentor, "instrument", instrument)


def _refusal(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(VARIABLE, f"{path} cannot be used: {error}", "correct the file, or unset the variable")


class _Unbroken(TextMapPropagator):
    """A propagator that always returns a context.

    The SDK makes an empty composite where the file has no `propagator`. That one returns None, which instrumentations
    then make the current context: the next request fails with an AttributeError, in the app.
    """

    def __init__(self, inner: TextMapPropagator) -> None:
        self._inner = inner

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        found: Context | None = self._inner.extract(carrier, context, getter)
        return get_current() if found is None else found

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        self._inner.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        return self._inner.fields
