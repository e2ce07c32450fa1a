"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint), and keys, as golang.org/x/mod/sumdb/note has them.

A note is a text, an empty line, and signatures: `— name base64(id of the key | signature)`.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from otel_telemetry.base.errors import ConfigurationError, TelemetryError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519: Final = b"\1"
_KEY: Final = "request_log.audit.key_file"
_NAME: Final = re.compile(r"[^\s+\x00-\x20\x7f]+")
_LINE: Final = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_ID_BYTES: Final = 4
_MOST: Final = 64


class BadNote(TelemetryError):
    """A checkpoint that is not signed by the key, or is none."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log was at some time: its name, how many leaves it had, and the hash of its tree."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


class Signer:
    """A private key with its name."""

    def __init__(self, text: str) -> None:
        """Read a key as `new_key` writes it; raises ConfigurationError."""
        _, _, rest = text.strip().partition("PRIVATE+KEY+")
        name, _, given = rest.partition("+")
        hash_text, _, data = given.partition("+")
        raw = _decoded(data)
        if not _NAME.fullmatch(name) or raw[:1] != _ED25519 or len(raw) != 1 + 32:
            raise ConfigurationError(_KEY, "holds no key of a checkpoint", "make one with otel-telemetry audit init")
        self.name = name
        self._key = _private(raw[1:])
        self.public = _public_text(name, self._key.public_key())
        if self.public.split("+")[1] != hash_text:
            raise ConfigurationError(_KEY, "the key is damaged: its id is another's", "restore it from your backup")

    def sign(self, text: str) -> str:
        """Return a note: the text, and its signature."""
        id_ = bytes.fromhex(self.public.split("+")[1])
        signature = base64.b64encode(id_ + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.name} {signature}\n"


def new_key(name: str) -> str:
    """Return a new private key as text."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError("request_log.audit.origin", "has a space or a +", "write it like example.com/audit")
    ed25519 = _library()
    key = ed25519.Ed25519PrivateKey.generate()
    data = base64.b64encode(_ED25519 + key.private_bytes_raw()).decode()
    return f"PRIVATE+KEY+{name}+{_public_text(name, key.public_key()).split('+')[1]}+{data}"


def opened(note: str, public: str) -> Checkpoint:
    """Return the checkpoint that a note holds, once the key has signed it; raises BadNote."""
    parts = verified(note, public).split("\n")
    if len(parts) < 4 or not _SIZE.fullmatch(parts[1]) or len(root := _decoded(parts[2])) != 32:  # noqa: PLR2004
        raise BadNote("what is signed is no checkpoint")
    return Checkpoint(parts[0], int(parts[1]), root)


def verified(note: str, public: str) -> str:
    """Return the text of a note that the key has signed; raises BadNote."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    name, hash_text, data = _public_parts(public)
    lines = signatures.splitlines()
    if not signatures.endswith("\n") or len(lines) > _MOST or any(ord(one) < 32 and one != "\n" for one in note):  # noqa: PLR2004
        raise BadNote("the checkpoint is cut or is none")
    if not any(_is_signed(line, text, name, bytes.fromhex(hash_text), data) for line in lines):
        raise BadNote(f"the checkpoint is not signed by {name}")
    return text


def _is_signed(line: str, text: str, name: str, id_: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # loaded by `_library` at the latest

    found = _LINE.fullmatch(line)
    if found is None:
        raise BadNote("a signature line of the checkpoint is cut or is none")
    given = _decoded(found[2])
    if found[1] != name or given[:_ID_BYTES] != id_:
        return False
    try:
        _library().Ed25519PublicKey.from_public_bytes(data).verify(given[_ID_BYTES:], text.encode())
    except InvalidSignature:
        return False
    return True


def _public_parts(public: str) -> tuple[str, str, bytes]:
    name, _, rest = public.strip().partition("+")
    hash_text, _, data = rest.partition("+")
    raw = _decoded(data)
    if raw[:1] != _ED25519 or len(raw) != 1 + 32 or _id(name, raw).hex() != hash_text:
        raise ConfigurationError("--public-key", "is no public key of a checkpoint", "write it as audit init showed it")
    return name, hash_text, raw[1:]


def _public_text(name: str, key: "Ed25519PublicKey") -> str:
    raw = _ED25519 + key.public_bytes_raw()
    return f"{name}+{_id(name, raw).hex()}+{base64.b64encode(raw).decode()}"


def _id(name: str, raw: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + raw).digest()[:_ID_BYTES]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _private(seed: bytes) -> "Ed25519PrivateKey":
    key: Ed25519PrivateKey = _library().Ed25519PrivateKey.from_private_bytes(seed)
    return key


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415  # an extra
    except ImportError:
        hint = "pip install 'otel-telemetry[audit]'"
        raise ConfigurationError("request_log.audit", "the library for signatures is missing", hint) from None
    return ed25519
