"""The digests beside the tags of all images that are named here: `make digests` asks the registries, and writes them.

A digest is that of an image's index, which names a manifest for each architecture; that of one manifest would fit one
architecture only. crane asks; it is built from its Go module (tests/backends/builds.py).
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.backends import builds
from tests.company.environments import ROOT

FILES: Final = (ROOT / "Dockerfile", ROOT / "deploy" / "collector" / "Dockerfile", ROOT / "docker-compose.yml")
#: What names an image there: `image: TAG`, `FROM TAG`, `ARG ..._IMAGE=TAG`, with `@DIGEST` or without.
NAMED: Final = re.compile(r"^(\s*image: |FROM |ARG \w+_IMAGE=)([^\s@$]+:[^\s@]+)(?:@(\S+))?", re.MULTILINE)
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
#: Images that are built here have no digest before they are.
_OURS: Final = "otel-telemetry"


class NoDigestError(Exception):
    """What could not be asked of a registry, or names no index, so that its digest would fit one architecture only."""


def named(text: str) -> Iterator[tuple[str, str | None]]:
    """Return each image of others that a file names: its tag, and its digest or None."""
    for _, tag, digest in NAMED.findall(text):
        if not tag.startswith(_OURS):
            yield tag, digest or None


def ask(tag: str, crane: Path) -> str:
    """Return the digest of a tag's index; or raise NoDigestError."""
    digest = _run(crane, "digest", tag).strip()
    manifest = json.loads(_run(crane, "manifest", f"{tag.rpartition(':')[0]}@{digest}"))
    if "manifests" not in manifest:
        raise NoDigestError(f"{tag} has one architecture only: {digest} is no index")
    return digest


def write(file: Path, crane: Path) -> list[str]:
    """Write the digests that the registries have now into a file; return all its images with them."""
    text = file.read_text(encoding="utf-8")
    now = {tag: ask(tag, crane) for tag, _ in named(text)}
    file.write_text(
        NAMED.sub(lambda one: one[0] if one[2] not in now else f"{one[1]}{one[2]}@{now[one[2]]}", text),
        encoding="utf-8",
    )
    return [f"{tag}@{digest}" for tag, digest in now.items()]


def _run(crane: Path, *arguments: str) -> str:
    done = subprocess.run([crane, *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise NoDigestError(f"crane {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    """Bring all files up to date, and print what they name now; stop at the first image without a digest."""
    try:
        crane = builds.build(builds.CRANE)
        for file in FILES:
            sys.stdout.writelines(f"{image}\n" for image in write(file, crane))
    except (builds.BuildFailed, NoDigestError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
