"""`make digests` with a real registry: what it writes is what the registry says, and only indexes are taken."""

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.backends import builds
from tests.backends.process import Process, free_port
from tests.company import digests

OLD = "sha256:" + "0" * 64


@pytest.fixture(name="crane", scope="module")
def crane_fixture() -> Path:
    return builds.built(builds.CRANE, "make e2e")


@pytest.fixture(name="registry", scope="module")
def registry_fixture(crane: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with `one:1.0` for one architecture, and `both:1.0`, an index of two."""
    address, folder = f"127.0.0.1:{free_port()}", tmp_path_factory.mktemp("registry")
    with Process([crane, "registry", "serve", "--address", address], folder, f"http://{address}/v2/"):
        push(crane, address, folder)
        yield address


def push(crane: Path, registry: str, folder: Path) -> None:
    layer = folder / "layer.tar"
    for name in ("amd64", "arm64"):
        with tarfile.open(layer, "w") as archive:
            archive.addfile(tarfile.TarInfo(name))
        _crane(crane, "append", "-f", str(layer), "-t", f"{registry}/one:{name}")
    _crane(crane, "tag", f"{registry}/one:amd64", "1.0")
    parts = [word for name in ("amd64", "arm64") for word in ("-m", f"{registry}/one:{name}")]
    _crane(crane, "index", "append", *parts, "-t", f"{registry}/both:1.0")


def _crane(crane: Path, *arguments: str) -> None:
    subprocess.run([crane, *arguments], check=True, capture_output=True)


def test_digests_of_indexes_are_written_beside_their_tags(crane: Path, registry: str, tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    before = (
        f"x:\n  image: {registry}/both:1.0@{OLD}\n  image: otel-telemetry:0.1.0 # ours\n  image: {registry}/both:1.0\n"
    )
    file.write_text(before)
    printed = digests.write(file, crane)
    accept = {
        "accept": "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
    }
    told = httpx.head(f"http://{registry}/v2/both/manifests/1.0", headers=accept).headers["docker-content-digest"]
    assert digests.DIGEST.fullmatch(told)
    assert printed == [f"{registry}/both:1.0@{told}"]
    assert file.read_text() == before.replace(f"@{OLD}", "").replace("both:1.0", f"both:1.0@{told}")


@pytest.mark.parametrize(("tag", "why"), [("one:1.0", "one architecture only"), ("both:2.0", "MANIFEST_UNKNOWN")])
def test_what_has_no_index_leaves_the_file_as_it_was(
    crane: Path, registry: str, tag: str, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(before := f"FROM {registry}/both:1.0\nFROM {registry}/{tag}@{OLD}\n")
    with pytest.raises(digests.NoDigestError, match=why):
        digests.write(file, crane)
    assert file.read_text() == before
