"""What two statements prove, in words, and the file that holds both."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.limits.data import CLOCK_SKEW_MAX_S
from protocols.limits.sync import REPORT_FILE_BYTES_MAX
from protocols.report.statement import Signed, Statement, TopicDigest

__all__ = ["Difference", "Verdict", "judge", "read_file", "write_file"]

_FORMAT: Final = "mailboxd convergence report 1"


@dataclass(frozen=True, slots=True)
class Difference:
    """A topic that the two do not hold alike; None: not held at all."""

    topic_hash: bytes
    asker: TopicDigest | None
    answerer: TopicDigest | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both statements are genuine and about the same meeting, and this is what they say."""

    asker: Statement
    answerer: Statement
    differences: tuple[Difference, ...]

    @property
    def converged(self) -> bool:
        """Whether both held the same."""
        return not self.differences

    @property
    def topics(self) -> int:
        """How many topics either of them holds."""
        return len({topic.topic_hash for statement in (self.asker, self.answerer) for topic in statement.topics})

    @property
    def logs(self) -> int:
        """How many logs the asker holds."""
        return sum(topic.logs for topic in self.asker.topics)


def judge(one: Signed, other: Signed) -> Verdict:
    """Checks two statements, in either order. Raises RemoteProtocolError if they do not belong together or are not
    what they pretend to be."""
    statements = one.read(), other.read()
    if statements[0].meeting != statements[1].meeting:
        raise RemoteProtocolError("meeting", "the two statements are not of the same meeting")
    meeting = statements[0].meeting
    by_signer = {statement.signer: statement for statement in statements}
    if set(by_signer) != {meeting.asker, meeting.answerer} or meeting.asker == meeting.answerer:
        raise RemoteProtocolError("signer", "both statements are by the same mailbox")
    asker, answerer = by_signer[meeting.asker], by_signer[meeting.answerer]
    if max(asker.from_s - answerer.to_s, answerer.from_s - asker.to_s) > CLOCK_SKEW_MAX_S:
        raise RemoteProtocolError("moment", "the two statements are not of the same moment")
    mine = {topic.topic_hash: topic for topic in asker.topics}
    theirs = {topic.topic_hash: topic for topic in answerer.topics}
    differences = [
        Difference(key, mine.get(key), theirs.get(key))
        for key in sorted(mine.keys() | theirs.keys())
        if mine.get(key) != theirs.get(key)
    ]
    return Verdict(asker, answerer, tuple(differences))


def write_file(one: Signed, other: Signed) -> str:
    """The report as a text file."""
    statements = [
        {"body": base64.b64encode(signed.body).decode(), "signature": base64.b64encode(signed.signature).decode()}
        for signed in (one, other)
    ]
    return json.dumps({"format": _FORMAT, "statements": statements}, indent=1) + "\n"


def read_file(data: bytes) -> tuple[Signed, Signed]:
    """The two statements, not judged yet. Raises RemoteProtocolError and nothing else."""
    if len(data) > REPORT_FILE_BYTES_MAX:
        raise RemoteProtocolError("limit", "this is too large to be a report")
    try:
        value = json.loads(data)
        if value["format"] != _FORMAT:
            raise RemoteProtocolError("format", "this is no convergence report, or that of a newer mailboxd")
        one, other = (
            Signed(
                base64.b64decode(statement["body"], validate=True),
                base64.b64decode(statement["signature"], validate=True),
            )
            for statement in value["statements"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise RemoteProtocolError("format", "this is no convergence report (`mailboxd report`)") from None
    return one, other
