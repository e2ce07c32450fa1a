"""What `configure()` takes beside the service's name and the exporter: the sections of the settings, as mappings."""

from collections.abc import Mapping
from typing import Any, TypedDict

Section = Mapping[str, Any]


class Sections(TypedDict, total=False):
    """The settings by section (docs/settings.md), each as a mapping of its settings. A test compares the names."""

    enabled: bool
    redaction: Section
    request_log: Section
    instrument: Section
    cache: Section
    gateway: Section
    forward: Mapping[str, Section]
    loki: Section
    prometheus: Section
    ui: Section
    anomalies: Section
    kpi: Mapping[str, Section]
