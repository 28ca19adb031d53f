"""Who fills a store, and who gives way when it is full. Pure: the stores remove what this names.

A *source* is where a message came from: a client's address, a paired device, a mailbox. It is kept with each message as
a small number, hashed with the store's own salt: strangers can't choose theirs, nobody reads addresses out of the file,
and the account stays small whoever comes. Bytes are counted by source and topic; `docs/quota.md` argues the rules.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from heapq import nlargest
from operator import itemgetter
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from blake3 import blake3

from protocols.limits.store import (
    EVICT_ASKED_TOPICS,
    EVICT_NEW_PART,
    EVICT_PART,
    EVICT_SMALL_PART,
    EVICT_YOUNG_S,
    MESSAGE_OVERHEAD_BYTES,
    SOURCE_CLIENTS,
    SOURCE_MAILBOX_WEIGHT,
    SOURCE_MAILBOXES,
    TOPIC_NEW_S,
)

__all__ = ["Ages", "Asked", "Shares", "Victim", "most_asked", "source_of"]

Topic = TypeVar("Topic", int, str)

Asked: TypeAlias = Sequence[tuple[Topic | None, int]]
"""By how many bytes a request makes topics grow; None is one that is not known yet."""


def source_of(origin: object, client: str, salt: bytes) -> int:
    """The number of a source: 1 to SOURCE_CLIENTS for `client`s, above that for mailboxes (`origin`); 0 is unknown."""
    if origin is None:
        return 1 + _hash(client, salt) % SOURCE_CLIENTS
    return 1 + SOURCE_CLIENTS + _hash(str(origin), salt) % SOURCE_MAILBOXES


def most_asked(growth: Mapping[str, int]) -> list[tuple[str, int]]:
    """Of the bytes by which topics grow, by name, those that count."""
    grown = [(topic, size) for topic, size in growth.items() if size > 0]
    return nlargest(EVICT_ASKED_TOPICS, grown, key=itemgetter(1))


def _hash(text: str, salt: bytes) -> int:
    return int.from_bytes(blake3(salt + text.encode()).digest(length=8))


def _weight(source: int) -> int:
    """A mailbox speaks for many people."""
    return SOURCE_MAILBOX_WEIGHT if source > SOURCE_CLIENTS else 1


class Victim(NamedTuple, Generic[Topic]):
    """Whose messages give way, the oldest first: those of `source` in `topic`, or if that is None in all new topics of
    which `least_bytes` are held, from whomever; not such as have just been acknowledged unless `young`. `spare_bytes`
    may go before another would have to."""

    source: int
    topic: Topic | None
    young: bool
    spare_bytes: int
    least_bytes: int = 0


class Shares(Generic[Topic]):
    """The account. A topic is known by whatever the store calls it. `now_s` is any steady time in seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._sources: dict[int, dict[Topic, int]] = {}
        self._totals: dict[int, int] = {}
        self._held: dict[Topic, int] = {}
        self.has_evicted = False
        """Whether anything is recorded as let go."""
        self._born: dict[Topic, float] = {}  # of new topics, the oldest first

    def born(self, topic: Topic, at_s: float | None = None) -> None:
        """A topic is new here (since `at_s`)."""
        self._born[topic] = self._now_s() if at_s is None else at_s

    def forget(self, topic: Topic) -> None:
        """Nothing of a topic is left."""
        self._born.pop(topic, None)

    def change(self, source: int, topic: Topic, messages: int, size: int) -> None:
        """Messages with blobs of `size` bytes together came; negative: went."""
        delta = size + messages * MESSAGE_OVERHEAD_BYTES
        for topics in (self._sources.setdefault(source, {}), self._held):
            left = topics.get(topic, 0) + delta
            if left:
                topics[topic] = left
            else:
                topics.pop(topic, None)
        self._totals[source] = self._totals.get(source, 0) + delta

    def is_new(self, topic: Topic) -> bool:
        """Whether a topic counts as new."""
        at_s = self._born.get(topic)
        return at_s is not None and at_s > self._now_s() - TOPIC_NEW_S

    def gives_way(self, victim: Victim[Topic], topic: Topic) -> bool:
        """Whether the victim's messages in this topic are meant."""
        if victim.topic is not None:
            return topic == victim.topic
        return self.is_new(topic) and self.held_in(topic) >= victim.least_bytes

    def held_in(self, topic: Topic) -> int:
        """Bytes of a topic, from all sources."""
        return self._held.get(topic, 0)

    def victim(self, source: int, asked: Asked[Topic], size: int) -> Victim[Topic] | None:
        """Who gives way to `size` bytes, for what `source` has `asked` for: whoever has most. Who has most himself
        gives way to himself, but not with what was just acknowledged."""
        if not self._totals:
            return None
        largest = max(self._totals, key=lambda one: self._totals[one] / _weight(one))
        theirs = self._totals[largest] / _weight(largest)
        mine = (self._totals.get(source, 0) + size) / _weight(source)
        if largest != source and theirs > mine:
            return self._within(largest, young=True, spare_bytes=int(theirs - mine) * _weight(largest))
        found = self._within(source, young=False, spare_bytes=0, asked=asked)
        if found is None:
            return None
        share = max((self._share(source, topic) + grown for topic, grown in asked), default=0)
        others = self._share(source, found.topic)
        if others > share and not any(self._is_in(found.topic, topic) for topic, _ in asked):
            return found._replace(young=True, spare_bytes=others - share)
        return found

    def by_topic(self) -> dict[Topic, int]:
        """Bytes of each topic, from all sources."""
        return dict(self._held)

    def would_take(self, source: int, topic: Topic | None, *, is_news: bool) -> bool:
        """Whether, while there is no room, something of `source` for `topic` would push out others; or, if it is news,
        what that source brought earlier."""
        found = self.victim(source, [(topic, 0)], 0)
        return found is not None and (found.young or is_news)

    def _is_in(self, share: Topic | None, topic: Topic | None) -> bool:
        """Whether a topic belongs to a share: that of one topic, or (None) of all new ones."""
        return share == topic if share is not None else topic is None or self.is_new(topic)

    def _share(self, source: int, topic: Topic | None) -> int:
        topics = self._sources.get(source, {})
        if topic is None or self.is_new(topic):
            return sum(size for one, size in topics.items() if self.is_new(one))
        return topics.get(topic, 0)

    def _within(self, source: int, *, young: bool, spare_bytes: int, asked: Asked[Topic] = ()) -> Victim[Topic] | None:
        """The largest share of a source: a topic, or all its new topics together (else whoever makes thousands of them
        would have a share for each). What is `asked` for counts as if it were there: else the small topics of a source
        would give way to a flood that comes in large pieces."""
        self._grow_up()
        held = self._sources.get(source, {})
        sizes: dict[Topic | None, int] = dict(held.items())
        unknown = 0
        for topic, grown in asked:
            before = sizes.get(topic, 0)
            if topic is not None:
                sizes[topic] = before + grown
            else:  # those that are not known yet are new ones, of which only the largest can be meant alone
                sizes[None] = max(before, grown)
                unknown += min(before, grown)
        new = {topic: size for topic, size in sizes.items() if topic is None or topic in self._born}
        known = max(
            ((size, topic) for topic, size in sizes.items() if topic not in new), default=None, key=itemgetter(0)
        )
        if known is not None and known[0] >= sum(new.values()) + unknown:
            return Victim(source, known[1], young, spare_bytes)
        return self._of_new(source, held, new, unknown, young=young, spare_bytes=spare_bytes) if new else None

    def _of_new(
        self,
        source: int,
        held: Mapping[Topic, int],
        new: Mapping[Topic | None, int],
        unknown: int,
        *,
        young: bool,
        spare_bytes: int,
    ) -> Victim[Topic] | None:
        """Which of a source's new topics give way. What counts is how large each is in the whole store: a flood comes
        by all ways, so that a source has little more of it than of what others say. One that is a large part of them is
        meant alone. Otherwise those that are small beside the largest stay, unless most is in small ones: then a flood
        may be, too, and all go by age."""
        sizes = {
            topic: size + (self._held[topic] - held[topic] if topic is not None and topic in held else 0)
            for topic, size in new.items()
        }
        together = sum(sizes.values()) + unknown
        size, topic = max(((size, topic) for topic, size in sizes.items()), key=itemgetter(0))
        # Of a topic that is not known yet nothing could give way: it is refused only if it were most of them.
        if (EVICT_NEW_PART if topic is not None else 2) * size > together:
            return None if topic is None else Victim(source, topic, young, spare_bytes)
        least = max((sizes[topic] for topic in held if topic in sizes), default=0) // EVICT_SMALL_PART
        large = sum(size for size in sizes.values() if size >= least)
        return Victim(source, None, young, spare_bytes, least if 2 * large >= together else 0)

    def _grow_up(self) -> None:
        old_from_s = self._now_s() - TOPIC_NEW_S
        while self._born:
            topic = next(iter(self._born))
            if self._born[topic] > old_from_s:
                return
            del self._born[topic]


class Ages:
    """Which messages have been acknowledged lately, by a number that grows with each."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._marks: deque[tuple[float, int]] = deque()

    def note(self, number: int) -> None:
        """Messages from `number` on come now or later."""
        now_s = self._now_s()
        if not self._marks or now_s >= self._marks[-1][0] + EVICT_YOUNG_S / EVICT_PART:
            self._marks.append((now_s, number))

    def young_from(self, following: int) -> int:
        """The lowest number that is young, `following` being the next one to be given."""
        old_s = self._now_s() - EVICT_YOUNG_S
        while self._marks and self._marks[0][0] < old_s - EVICT_YOUNG_S / EVICT_PART:
            self._marks.popleft()
        return self._marks[0][1] if self._marks else following
