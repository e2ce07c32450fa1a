"""Certificates for the tests of TLS."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Certificates:
    """An authority, and what it signed for the server and for a client."""

    folder: Path

    def __post_init__(self) -> None:
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"),
        )
        for name in ("server", "client"):
            self._sign(name)

    def _sign(self, name: str) -> None:
        (self.folder / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", "ext", "-out", f"{name}.pem"),
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30)

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def bytes(self, name: str) -> bytes:
        return self[name].read_bytes()

    def context(self, client: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self["ca.pem"])
        if client:
            context.load_cert_chain(self[f"{client}.pem"], self[f"{client}.key"])
        return context
