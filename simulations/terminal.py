"""What a terminal shows of runs: a line that follows them, and a table of what held."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import click

from node.cli.output import count_text, table
from node.logs import escape_controls
from simulations.recording import Glimpse, Happening, Verdict
from simulations.report import words
from simulations.scenario import Scenario

__all__ = ["Live", "StatusLine", "bar", "clock_text", "speed_text", "time_text", "typed", "verdict_table"]

_REDRAWS_PER_S: Final = 10
_HAPPENINGS_SHOWN: Final = 4  # of those between two samples: festivals have hundreds
_PLAIN_LINES: Final = 10


class StatusLine:
    """One line on stderr that is written anew, with lasting lines above it. Without a terminal only the lasting lines
    appear, and nothing at all if it `is_quiet`."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._is_quiet = is_quiet
        self._shown = ""
        self._drawn_s = 0.0

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._draw("")

    def show(self, text: str) -> None:
        """Puts `text` in the line, if the last change was not just now."""
        if time.monotonic() - self._drawn_s >= 1 / _REDRAWS_PER_S:
            self._drawn_s = time.monotonic()
            self._draw(text)

    def above(self, text: str) -> None:
        """Writes a lasting line above it."""
        if self._is_quiet:
            return
        line, self._drawn_s = self._shown, 0.0
        self._draw("")
        click.echo(escape_controls(text), err=True)
        self._draw(line)

    def _draw(self, text: str) -> None:
        if self.on_terminal and not self._is_quiet:
            text = text[: shutil.get_terminal_size().columns - 1]
            if text != self._shown:
                click.echo(f"\r\x1b[K{text}", nl=False, err=True)
                self._shown = text


class Live:
    """Follows one run: its clock, how far messages have spread, and what happens."""

    def __init__(self, scenario: Scenario, line: StatusLine) -> None:
        self._end_s = scenario.duration_s
        self._line = line
        self._plain_lines = 0

    def __call__(self, glimpse: Glimpse) -> None:
        share = glimpse.at_s / self._end_s
        text = (
            f"{clock_text(glimpse.at_s)} {bar(share)} {typed(words.percent(glimpse.held_share))} held   "
            f"{glimpse.up} of {glimpse.mailboxes} up   {count_text(glimpse.groups, 'different set')}   "
            f"{count_text(glimpse.messages, 'message')}"
        )
        if self._line.on_terminal:
            self._tell(glimpse.happenings)
            self._line.show(text)
        elif share * _PLAIN_LINES >= self._plain_lines + 1:
            self._plain_lines = int(share * _PLAIN_LINES)
            self._line.above(text)

    def _tell(self, happenings: Sequence[Happening]) -> None:
        for happening in happenings[:_HAPPENINGS_SHOWN]:
            self._line.above(f"{clock_text(happening.at_s)} {happening.text}")
        if len(happenings) > _HAPPENINGS_SHOWN:
            self._line.above(f"{' ' * 11} … and {len(happenings) - _HAPPENINGS_SHOWN} more")


def bar(share: float, width: int = 24) -> str:
    """A bar of `width` characters."""
    full = round(min(1.0, max(0.0, share)) * width)
    return "━" * full + "─" * (width - full)


def clock_text(at_s: float) -> str:
    """Simulated time: `    0:12:30`, `6d 23:59:59`."""
    minutes, seconds = divmod(int(at_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{days}d {hours:02}:{minutes:02}:{seconds:02}" if days else f"{hours}:{minutes:02}:{seconds:02}"
    return text.rjust(11)


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Every invariant in a row; under those that broke, how."""
    heads = ["", "invariant", "checks>", "what it says"]
    rows = [["holds" if v.holds else "BROKEN", v.name, f"{v.checks:,}", v.title] for v in verdicts]
    lines = table(heads, rows, indent="  ").splitlines()
    for position, verdict in reversed(list(enumerate(verdicts, start=1))):
        if verdict.counterexample is not None:
            lines.insert(position + 1, f"          {escape_controls(verdict.counterexample)}")
    return "\n".join(lines)


def speed_text(simulated_s: float, wall_s: float) -> str:
    """`3 h simulated in 2.1 s`."""
    return f"{time_text(simulated_s)} simulated in {time_text(wall_s)}"


def time_text(span_s: float) -> str:
    """`2 min 5 s`."""
    return typed(words.duration(span_s))


def typed(text: str) -> str:
    """With spaces as typed: not every terminal has those of print."""
    return text.replace("\u202f", " ").replace("\xa0", " ")
