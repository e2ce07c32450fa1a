"""Settings, resolved once: argument over environment over file over default. Unknown keys are errors.

The environment spells `request_log.url` as `OTEL_TELEMETRY_REQUEST_LOG__URL`; lists and maps are JSON. The file is
`otel-telemetry.toml` in the working directory, or the one that `OTEL_TELEMETRY_FILE` names. Components keep their own
settings beside them; this module only composes them.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from otel_telemetry.app import older_variables
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cache.config import CacheSettings
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.prometheus.config import PrometheusSettings
from otel_telemetry.exporters.request_log.anomalies.config import AnomalySettings
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.kpis.config import KpiName, KpiSettings, check
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.config import UiSettings

ENV_PREFIX = "OTEL_TELEMETRY_"
FILE_VARIABLE = ENV_PREFIX + "FILE"
DEFAULT_FILE = Path("otel-telemetry.toml")
_NESTED = "__"
_ANY = "NAME"
"""Stands for the name that the user gives to one of many, as in `forward.NAME.endpoint`."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9_.-]*[a-z0-9])?$", max_length=40)]


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter=_NESTED, extra="forbid", frozen=True, env_ignore_empty=True
    )

    enabled: bool = Field(default=True, description="Record telemetry. Off: nothing is recorded, at no cost.")
    redaction: RedactionSettings = RedactionSettings()
    request_log: RequestLogSettings = RequestLogSettings()
    instrument: InstrumentSettings = InstrumentSettings()
    cache: CacheSettings = CacheSettings()
    gateway: GatewaySettings = GatewaySettings()
    forward: dict[Name, ForwardSettings] = {}
    loki: LokiSettings = LokiSettings()
    prometheus: PrometheusSettings = PrometheusSettings()
    ui: UiSettings = UiSettings()
    anomalies: AnomalySettings = AnomalySettings()
    kpi: dict[KpiName, KpiSettings] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by priority: arguments, environment, file, variables of older systems."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _FileSource(settings_cls), _OlderVariables(settings_cls)


class _FileSource(PydanticBaseSettingsSource):
    """The settings file, where there is one."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        named, path = os.environ.get(FILE_VARIABLE), _path()
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if named:
                raise ConfigurationError(FILE_VARIABLE, f"there is no file {path}", "create it or unset it") from None
            return {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise ConfigurationError(str(path), f"cannot be read: {error}", "correct the file") from None


class _OlderVariables(_FileSource):
    """The settings from variables of older systems. Each is logged, unless its new name is used, too."""

    def __call__(self) -> dict[str, Any]:
        older_variables.log_used(variable, self.current_state)
        return older_variables.as_settings()


def load(**arguments: Any) -> Settings:
    """Resolve the settings, or raise ConfigurationError naming the first key that cannot be used.

    `arguments` are nested mappings, `load(request_log={"url": "sqlite:///app.db"})`.
    """
    _refuse_unknown_environment()
    try:
        resolved = Settings(**arguments)
        check(resolved.kpi)
    except ValidationError as error:
        raise _with_line(_first_problem(error)) from None
    except ConfigurationError as error:
        raise _with_line(error) from None
    return resolved


def reader(**arguments: Any) -> Callable[[], Settings]:
    """Return what resolves the settings, at the start and later: a file that was there then has to be there still.

    A file that is away for a moment would otherwise put all settings back to their defaults.
    """
    was_there = False

    def read() -> Settings:
        nonlocal was_there
        path = _path()
        if was_there and not path.exists():
            raise ConfigurationError(str(path), "is not there any more", "put it back, or restart to do without it")
        resolved = load(**arguments)
        was_there = path.exists()
        return resolved

    return read


def _path() -> Path:
    return Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)


def _with_line(error: ConfigurationError) -> ConfigurationError:
    """Return the error with the line of the settings file that caused it, if there is one."""
    path = _path()
    try:
        line = _line_of(error.key.split("."), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        line = 0
    if not line:
        return error
    return ConfigurationError(error.key, error.problem, f"{error.hint} (line {line} of {path})".lstrip())


def _line_of(parts: Sequence[str], text: str) -> int:
    """Return the line that names the most of a dotted key, counted from 1; 0 where none names more than its section."""
    section: list[str] = []
    best, line = 1, 0
    for number, given in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", given)
        key = re.match(r"\s*([\w.\"-]+)\s*=", given)
        if header:
            section = _names(header[1])
        named = section if header else [*section, *_names(key[1])] if key else []
        if len(named) > best and named == list(parts[: len(named)]):
            best, line = len(named), number
    return line


def _names(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _refuse_unknown_environment() -> None:
    known = {variable(name) for name, _ in describe()} | {variable(name) for name in _sections(Settings)}
    known.add(FILE_VARIABLE)
    for name in sorted(os.environ):
        upper = name.upper()
        if upper.startswith(ENV_PREFIX) and not _is_known(upper, known):
            raise ConfigurationError(name, "no such setting", nearest(upper, known))


def _is_known(variable_name: str, known: set[str]) -> bool:
    patterns = (re.sub(f"(?<={_NESTED}){_ANY}(?=$|{_NESTED})", ".+", name) for name in known)
    return variable_name in known or any(re.fullmatch(pattern, variable_name) for pattern in patterns)


def variable(name: str) -> str:
    """Return the environment variable of a dotted setting name."""
    return ENV_PREFIX + name.replace(".", _NESTED).upper()


def describe(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, pydantic field) of every single setting, in order: what docs and --help are made from."""
    for name, info in model.model_fields.items():
        nested, inner = _nested(info, f"{prefix}{name}")
        if nested is not None:
            yield from describe(nested, f"{inner}.")
        else:
            yield f"{prefix}{name}", info


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        nested, inner = _nested(info, f"{prefix}{name}")
        if nested is not None:
            yield from dict.fromkeys((f"{prefix}{name}", inner))
            yield from _sections(nested, f"{inner}.")


def _nested(info: Any, name: str) -> tuple[type[BaseModel] | None, str]:
    """Return the model of a section, or of each of many by name, and the dotted name that its settings begin with."""
    of_many = get_args(info.annotation)[1:] if get_origin(info.annotation) is dict else ()
    for model in of_many or (info.annotation,):
        if isinstance(model, type) and issubclass(model, BaseModel):
            return model, f"{name}.{_ANY}" if of_many else name
    return None, name


def _first_problem(error: ValidationError) -> ConfigurationError:
    found = error.errors(include_url=False, include_input=False)
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigurationError(
            key, "no such setting", nearest(key, {*_sections(Settings), *(n for n, _ in describe())})
        )
    return ConfigurationError(
        key, first["msg"].removeprefix("Value error, "), f"set it in {DEFAULT_FILE} or as {variable(key)}"
    )


def nearest(given: str, known: set[str]) -> str:
    """Return the next step for a name that is not known: the nearest that is, or those of its section that have it."""
    section, point, key = given.rpartition(_NESTED if _NESTED in given else ".")
    fuller = re.compile(rf"{re.escape(section + point)}(.+_)?{re.escape(key)}s?", re.IGNORECASE)
    close = sorted(name for name in known if fuller.fullmatch(name)) if point else []
    if len(close) > 1:
        return f"did you mean {' or '.join(close)}?"
    close = close or difflib.get_close_matches(given, known, n=1)
    return f"did you mean {close[0]}?" if close else "`otel-telemetry settings` lists them all"


def as_mapping(settings: Settings) -> Mapping[str, Any]:
    """Return the settings as plain data with every secret masked, for printing."""
    return settings.model_dump(mode="json")


__all__ = ["DEFAULT_FILE", "ENV_PREFIX", "FILE_VARIABLE", "Settings", "as_mapping", "describe", "load", "variable"]
