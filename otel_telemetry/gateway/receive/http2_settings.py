"""SETTINGS frames of HTTP/2: what has no meaning here is left out before `h2` sees it, which would keep all of it.

There may be 65,536 kinds of settings, and `h2` has a list for each that a client ever named.
"""

from typing import Final

from h2.settings import SettingCodes

_HEAD: Final = 9  # bytes before a frame's payload: length, type, flags, stream
_ENTRY: Final = 6  # bytes of an identifier and its value
_ACK: Final = 1  # a flag
_KNOWN: Final = frozenset(SettingCodes)
#: Of one frame: a few settings have a meaning, and clients add a few of their own.
MOST_BYTES: Final = 32 * _ENTRY


def known(frame: bytes) -> bytes:
    """Return a whole frame without the settings that mean nothing here, which are to be ignored (RFC 9113, 6.5.2).

    A frame that is not valid is returned as it is, for `h2` to refuse.
    """
    payload = frame[_HEAD:]
    if len(payload) % _ENTRY or frame[4] & _ACK:
        return frame
    entries = (payload[at : at + _ENTRY] for at in range(0, len(payload), _ENTRY))
    kept = b"".join(entry for entry in entries if int.from_bytes(entry[:2]) in _KNOWN)
    return len(kept).to_bytes(3) + frame[3:_HEAD] + kept
