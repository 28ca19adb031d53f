"""What refusals mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.client.answers import Cause, judge, parse_retry_after_s

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "header", "cause", "pause_s"),
    [
        (400, None, Cause.BAD, 0.0),
        (401, None, Cause.UNAUTHORISED, 60.0),
        (404, None, Cause.NO_SUCH_ROUTE, 0.0),
        (413, None, Cause.TOO_LARGE, 0.0),
        (429, "1", Cause.BUSY, 1.0),
        (503, "5", Cause.BUSY, 5.0),
        (503, "Sat, 21 Nov 2026 12:00:07 GMT", Cause.BUSY, 7.0),
        (503, "Sat, 21 Nov 2026 11:00:07 GMT", Cause.BUSY, 0.0),
        (503, "99999999999999999999", Cause.BUSY, 600.0),
        (507, None, Cause.FULL, 60.0),
        (507, "3", Cause.FULL, 3.0),
        (500, None, Cause.FAULTY, 0.0),
        (302, None, Cause.FAULTY, 0.0),
    ],
)
def test_what_a_status_means(status: int, header: str | None, cause: Cause, pause_s: float) -> None:
    refused = judge(status, header, b"The\x1b[31m reason.\n", now=NOW)
    assert refused is not None
    assert (refused.cause, refused.retry_after_s) == (cause, pause_s)
    assert str(refused) == f"HTTP {status}: The[31m reason."


@pytest.mark.parametrize("status", [200, 201, 204])
def test_what_is_well(status: int) -> None:
    assert judge(status, None, b"", now=NOW) is None


@given(st.text())
def test_no_header_breaks_it(value: str) -> None:
    seconds = parse_retry_after_s(value, now=NOW)
    assert seconds is None or 0 <= seconds <= 600
