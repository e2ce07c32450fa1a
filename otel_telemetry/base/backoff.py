"""How long to wait before something that failed is tried again: the pause doubles with each failure in a row."""

import random
from typing import Final

_LEAST_SHARE: Final = 0.5
_MOST_DOUBLINGS: Final = 30


def pause(failures: int, first: float, longest: float) -> float:
    """Return the seconds to wait after so many failures in a row, of which this is at least the first."""
    return min(longest, first * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS))


def spread(seconds: float) -> float:
    """Return a random time between half of a pause and all of it, so that clients do not retry at the same moment."""
    return random.uniform(_LEAST_SHARE, 1) * seconds  # noqa: S311 - spreads retries, no secret
