"""Settings of any network destination: address, headers, certificates."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def _check_endpoint(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL such as http://127.0.0.1:4317; https:// switches TLS on")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment; credentials go into headers")
    _ = parts.port  # raises ValueError where it is no port
    return value.rstrip("/")


def _check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Return them with names in lower case, as HTTP/2 wants them. No message holds a value."""
    lower = {name.lower(): value for name, value in headers.items()}
    for name, value in lower.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(f"the value of {name} must be printable ASCII on one line")
    return lower


Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
Headers = Annotated[dict[str, SecretStr], AfterValidator(_check_headers)]


class Destination(BaseModel):
    """Settings that all destinations have; each adds its endpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    headers: Headers = Field(
        default={}, description="Headers (gRPC: metadata) of each request, credentials for example; never shown."
    )
    timeout: float = Field(
        10.0, gt=0, le=600, description="Seconds that one request may take, and 10 more for each megabyte of it."
    )
    compression: Literal["none", "gzip"] = Field(
        "none", description="gzip saves network traffic and costs CPU: worth it unless the destination is near."
    )
    ca_file: Path | None = Field(None, description="Certificates (PEM) to trust instead of the system's.")
    certificate_file: Path | None = Field(None, description="Certificate (PEM) to show to the destination.")
    key_file: Path | None = Field(None, description="The key (PEM) of that certificate.")

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self

    def header_values(self) -> dict[str, str]:
        """Return the headers with their secrets in the clear, for the wire only."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}
