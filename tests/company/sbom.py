"""The bill of materials of an environment, as CycloneDX JSON, by cyclonedx-py."""

import subprocess
from pathlib import Path

from tests.company import environments


def of(environment: Path, target: Path) -> Path:
    """Write the bill of materials of a virtual environment to a file; return the file."""
    tool = environments.environment("sbom", "cyclonedx-bom>=7.5").with_name("cyclonedx-py")
    command: list[str | Path] = [
        tool,
        "environment",
        "--output-reproducible",
        "--of",
        "JSON",
        "-o",
        target,
        environment / "bin" / "python",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return target
