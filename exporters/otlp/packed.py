"""gRPC calls whose message we compress ourselves, because gRPC's own gzip costs as much as all of the redaction.

The C core compresses at zlib's default level, and no option sets another one; `gzipped` takes a twelfth of the time.
But the core accepts messages that are already compressed, marked by a flag, and sends them as they are (CompressMessage
in its compression_filter.cc). The Python layer has no public access to that flag, so a private method is overridden
here, only with those versions of grpcio for which a test has proved it. With any other version the core compresses:
gzip too, only slower.
"""

from typing import Any, Final

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined] # the stubs know of public parts only

from otel_telemetry.exporters.http.compression import gzipped

_PROVED: Final = frozenset({"1.85"})
_IS_PACKED: Final = -0x80000000  # GRPC_WRITE_INTERNAL_COMPRESS, the highest bit, as the signed number that is taken


def can_pack() -> bool:
    """Return whether messages can be compressed here, with the installed version of grpcio."""
    return grpc.__version__.rpartition(".")[0] in _PROVED


def packing(call: "grpc.UnaryUnaryMultiCallable[bytes, bytes]") -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
    """Make the call compress what it sends; its compression must be set to gzip, which announces it to the receiver.

    Nothing changes if `can_pack` is false.
    """
    if can_pack():
        made: Any = call
        prepare = made._prepare  # noqa: SLF001 - see above

        def prepare_packed(body: bytes, *arguments: Any) -> tuple[Any, ...]:
            state, operations, *rest = prepare(body, *arguments)
            message = cygrpc.SendMessageOperation(gzipped(body), _IS_PACKED)
            replaced = (message if isinstance(each, cygrpc.SendMessageOperation) else each for each in operations)
            return (state, tuple(replaced), *rest)

        made._prepare = prepare_packed  # noqa: SLF001
    return call
