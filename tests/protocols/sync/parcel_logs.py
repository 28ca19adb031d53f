"""Parcels by hand: the logs in them from their messages' headers."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.sync.messages import ParcelLog

__all__ = ["parcel_log"]


def parcel_log(number: int, watermark: int | None, headers: Sequence[tuple[int, int, int]]) -> ParcelLog:
    """A log with (seq, first stored, size) of each message."""
    seqs, first_stored_s, sizes = (list(column) for column in zip(*headers, strict=True))
    return ParcelLog(number, watermark, seqs, first_stored_s, sizes)
