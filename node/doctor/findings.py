"""What the doctor says: one finding for each thing that it looked at."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Finding", "Verdict", "good", "note", "problem", "skipped"]


class Verdict(enum.StrEnum):
    """`NOTE` is worth knowing, and may be as it should; `SKIPPED` could not be looked at."""

    GOOD = "good"
    NOTE = "note"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is a short stable word for scripts; `text` says what was found, `remedy` what to do about it."""

    check: str
    verdict: Verdict
    text: str
    remedy: str = ""


def good(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.GOOD, text)


def note(check: str, text: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(check, Verdict.NOTE, text, remedy)


def problem(check: str, text: str, remedy: str) -> Finding:
    """Something that must be mended."""
    return Finding(check, Verdict.PROBLEM, text, remedy)


def skipped(check: str, why: str) -> Finding:
    """Could not be looked at."""
    return Finding(check, Verdict.SKIPPED, why)
