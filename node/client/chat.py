"""What the example chat puts into messages: text with sender and time, sealed with a key made from a shared word.

Everybody who knows the word can read, and can write under any name; mailboxes see neither text nor names nor what the
topic is called. Whoever holds the messages can try words, slowly: a good one is a sentence.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import nacl.exceptions
import nacl.pwhash
import nacl.secret

from node.client.deliveries import Message
from protocols.limits.client import CHAT_TEXT_BYTES_MAX
from protocols.limits.tools import NAME_CHARS_MAX
from protocols.model import LogName

__all__ = ["Line", "Room"]

_SALT = b"mailboxd chat v1"


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody said, and when (Unix seconds by their clock)."""

    name: str
    text: str
    at_s: float


class Room:
    """A chat's topic and key, from what people call it and the word that they share. Takes about 0.1 s and 64 MiB."""

    def __init__(self, topic: str, secret: str) -> None:
        root = nacl.pwhash.argon2id.kdf(
            64,
            secret.encode() + b"\0" + topic.encode(),
            _SALT,
            opslimit=nacl.pwhash.argon2id.OPSLIMIT_INTERACTIVE,
            memlimit=nacl.pwhash.argon2id.MEMLIMIT_INTERACTIVE,
        )
        self.topic = hashlib.blake2b(root[:32], digest_size=32, person=b"mailboxd topic").hexdigest()
        """The topic's id on mailboxes: who does not know the word can't guess it."""
        self._box = nacl.secret.SecretBox(root[32:])

    def seal(self, line: Line, place: LogName, seq: int) -> bytes:
        """The message that says `line` at this place; it counts at no other. Raises ValueError if it is too long."""
        if len(line.text.encode()) > CHAT_TEXT_BYTES_MAX:
            raise ValueError(f"a line has {CHAT_TEXT_BYTES_MAX} bytes at the most")
        fields = {"name": line.name, "text": line.text, "at_s": round(line.at_s, 3), "log": place.log, "seq": seq}
        return bytes(self._box.encrypt(json.dumps(fields).encode()))

    def open(self, message: Message) -> Line:
        """What a message says. Raises ValueError if it was not written for this place by one who knows the word."""
        return self.read(LogName(message.topic, message.log), message.seq, message.content)

    def accepts(self, place: LogName, seq: int, content: bytes) -> bool:
        """Whether it says anything: what does not is as if it had not come."""
        try:
            self.read(place, seq, content)
        except ValueError:
            return False
        return True

    def read(self, place: LogName, seq: int, content: bytes) -> Line:
        """As `open`."""
        if len(content) > 8 * CHAT_TEXT_BYTES_MAX:
            raise ValueError("far too long")
        try:
            fields = json.loads(self._box.decrypt(content))
            if (fields["log"], fields["seq"]) != (place.log, seq):
                raise ValueError("it was written for another place")
            line = Line(str(fields["name"])[:NAME_CHARS_MAX], str(fields["text"]), float(fields["at_s"]))
        except (nacl.exceptions.CryptoError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError("it is not of this chat") from error
        return line
