"""How likely a count is, where counts scatter more than chance alone: tails of two distributions, without scipy."""

import math
from typing import Final

_EPSILON: Final = 1e-15
_TINY: Final = 1e-300
_STEPS: Final = 500
_ALMOST_POISSON: Final = 1.02


def count_tails(count: float, mean: float, dispersion: float) -> tuple[float, float]:
    """Return the chances of so few and of so many: negative binomial, `dispersion` times the variance of a Poisson."""
    if mean <= 0:
        return 1.0, 1.0 if count <= 0 else 0.0
    spread = max(dispersion, _ALMOST_POISSON)
    size, share = mean / (spread - 1), 1 / spread
    below = _beta(size, math.floor(count) + 1, share)
    above = 1.0 if count <= 0 else 1 - _beta(size, math.ceil(count), share)
    if above < 1e-9:  # noqa: PLR2004 - what is left of 1 after a subtraction is noise
        above = _beta(math.ceil(count), size, 1 - share)
    return below, above


def share_tails(hits: float, of: float, share: float, dispersion: float) -> tuple[float, float]:
    """Return the chances of so few and so many hits: beta-binomial, `dispersion` times the variance of a binomial."""
    if of <= 0:
        return 1.0, 1.0
    share = min(max(share, 0.5 / (of + 1)), 1 - 0.5 / (of + 1))
    spread = min(max(dispersion, 1.0), of)
    # Of a large number, a count of the rarer side with that spread is as good, and its tail is at hand.
    if share <= 0.5:  # noqa: PLR2004 - the middle
        return count_tails(hits, of * share, max(spread * (1 - share), _ALMOST_POISSON))
    few, many = count_tails(of - hits, of * (1 - share), max(spread * share, _ALMOST_POISSON))
    return many, few


def _beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x > (a + 1) / (a + b + 2):
        return 1 - _fraction(b, a, 1 - x) * math.exp(front) / b
    return _fraction(a, b, x) * math.exp(front) / a


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    found = d
    for step in range(1, _STEPS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for term in (even, odd):
            d = 1 / _away(1 + term * d)
            c = _away(1 + term / c)
            found *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return found


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
