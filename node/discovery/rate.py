"""Token buckets: how much strangers may make us do per second."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Bucket", "Buckets"]


class Bucket:
    """Holds up to `burst` tokens and gains `per_second`. Time is any monotonic scale in seconds."""

    __slots__ = ("_at_s", "_burst", "_per_second", "_tokens")

    def __init__(self, *, per_second: float, burst: float, now_s: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at_s = now_s

    def available(self, now_s: float) -> float:
        """Tokens there are now."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._at_s) * self._per_second)
        self._at_s = now_s
        return self._tokens

    def take(self, now_s: float) -> bool:
        """Takes one token if there is one."""
        if self.available(now_s) < 1:
            return False
        self._tokens -= 1
        return True


class Buckets:
    """A bucket for each of many keys. Only the `keys_max` most recent keys are remembered; one that was forgotten
    starts with a full bucket, so a total has to be bounded elsewhere."""

    def __init__(self, *, per_second: float, burst: float, keys_max: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._keys_max = keys_max
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def has(self, key: Hashable, now_s: float) -> bool:
        """Whether `key` has a token."""
        bucket = self._buckets.get(key)
        return bucket is None or bucket.available(now_s) >= 1

    def take(self, key: Hashable, now_s: float) -> bool:
        """Takes one token of `key` if there is one."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = Bucket(per_second=self._per_second, burst=self._burst, now_s=now_s)
            self._buckets[key] = bucket
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now_s)
