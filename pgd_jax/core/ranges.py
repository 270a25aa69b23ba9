"""Ranges of numbers. A setting's help shows its range, and values are checked before anything is read."""

import math
from typing import NamedTuple

FLOAT32_MAX = 3.4028235e38


class Range(NamedTuple):
    """Numbers from `low` to `high`. `has_low` and `has_high` say whether the ends belong to the range."""

    low: float = -math.inf
    high: float = math.inf
    has_low: bool = True
    has_high: bool = True

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > FLOAT32_MAX:
            return False
        above = value >= self.low if self.has_low else value > self.low
        return above and (value <= self.high if self.has_high else value < self.high)

    def __str__(self) -> str:
        if math.isinf(self.low) and math.isinf(self.high):
            return "a number that float32 can hold"
        if math.isinf(self.high):
            return f"{self.low:g} or more" if self.has_low else f"above {self.low:g}"
        if self.has_low and self.has_high:
            return f"from {self.low:g} to {self.high:g}"
        low = f"from {self.low:g}" if self.has_low else f"above {self.low:g}"
        return f"{low}, {'at most' if self.has_high else 'below'} {self.high:g}"


ANY = Range()
POSITIVE = Range(0.0, has_low=False)
NOT_NEGATIVE = Range(0.0)
SHARE = Range(0.0, 1.0)
SHARE_ABOVE_0 = Range(0.0, 1.0, has_low=False)
SHARE_BELOW_1 = Range(0.0, 1.0, has_high=False)
WITHIN_0_AND_1 = Range(0.0, 1.0, False, False)
