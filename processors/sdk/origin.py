"""Resources and scopes, cleaned once each: they are shared by every record of a process."""

import threading
from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_telemetry.base import conventions
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Finding, Redactor
from otel_telemetry.processors.sdk.parts import clean_attributes

Shared = TypeVar("Shared")
Made = TypeVar("Made")


class Origin(NamedTuple):
    """Where a record comes from: its resource without personal data, its service, and the redactor for that service."""

    resource: Resource
    service: str
    redactor: Redactor


#: A resource and a scope as they came, held so that no identity is reused, and what they are without personal data.
_Known = tuple[Resource, InstrumentationScope | None, Origin, InstrumentationScope | None]
_MOST_KNOWN: Final = 256


class _Memo(Generic[Shared, Made]):
    """A small memory keyed by identity. It holds what it knows, so that an identity is never reused under it."""

    _MOST = 256

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Shared, Made]] = {}
        self._lock = threading.Lock()

    def get(self, shared: Shared) -> Made | None:
        known = self._known.get(id(shared))
        return known[1] if known is not None else None

    def put(self, shared: Shared, made: Made) -> Made:
        with self._lock:
            if len(self._known) >= self._MOST:
                self._known.clear()
            self._known[id(shared)] = (shared, made)
        return made


class Origins:
    """Cleans resources and scopes; thread-safe; each is worked on once, however many records share it."""

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor
        self._resources: _Memo[Resource, Origin] = _Memo()
        self._scopes: _Memo[InstrumentationScope, InstrumentationScope] = _Memo()
        self._known: dict[int, _Known] = {}

    def of(self, resource: Resource) -> Origin:
        """Return the origin that belongs to a resource."""
        return self._resources.get(resource) or self._resources.put(resource, self._clean_resource(resource))

    def scope(self, scope: InstrumentationScope | None, origin: Origin) -> InstrumentationScope | None:
        """Return the scope without personal data: the same object where there was none."""
        if scope is None:
            return None
        return self._scopes.get(scope) or self._scopes.put(scope, _clean_scope(scope, origin))

    def origin_of(
        self, resource: Resource, scope: InstrumentationScope | None
    ) -> tuple[Origin, InstrumentationScope | None]:
        """Return both at once: every span needs them, and few places produce all spans of a process."""
        known = self._known.get(id(scope))
        if known is not None and known[0] is resource and known[1] is scope:
            return known[2], known[3]
        origin = self.of(resource)
        clean = self.scope(scope, origin)
        if len(self._known) >= _MOST_KNOWN:
            self._known = {}
        self._known[id(scope)] = resource, scope, origin, clean
        return origin, clean

    def _clean_resource(self, resource: Resource) -> Origin:
        name = resource.attributes.get(conventions.SERVICE_NAME)
        redactor = self.redactor.for_service(str(name or conventions.UNKNOWN_SERVICE))
        findings: list[Finding] = []
        attributes = clean_attributes(redactor, resource.attributes, findings)
        url = redactor.string(resource.schema_url, findings=findings)
        service = str(attributes.get(conventions.SERVICE_NAME, conventions.UNKNOWN_SERVICE))
        finding_counts.count(findings, service)
        if dict(resource.attributes) == attributes and url == resource.schema_url:
            return Origin(resource, service, redactor)
        return Origin(Resource(attributes, url), service, redactor)


def _clean_scope(scope: InstrumentationScope, origin: Origin) -> InstrumentationScope:
    findings: list[Finding] = []

    def text(value: str | None) -> str | None:
        return origin.redactor.string(value, findings=findings) if value else value

    attributes = clean_attributes(origin.redactor, scope.attributes or {}, findings)
    clean = InstrumentationScope(text(scope.name) or "", text(scope.version), text(scope.schema_url), attributes)
    finding_counts.count(findings, origin.service)
    return clean if findings or attributes != dict(scope.attributes or {}) else scope
