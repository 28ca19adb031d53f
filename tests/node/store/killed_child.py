"""The victim of `test_kill.py`: stores from many tasks and says on stdout what was acknowledged, until it is killed.

Arguments: the store's path, a number that makes this run's messages different from those of others, and the seed.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import trio

from node.store.api import Arrival
from node.store.sqlite import SqliteStore
from protocols.model import LogName, digest_of

TASKS = 16


def requests(task: int, start: int, seed: int) -> list[Arrival]:
    """The request of one task that begins at seq `start`: 1 to 5 messages, now and then one of several chunks."""
    chance = random.Random(f"{seed} {task} {start}")
    made = []
    for seq in range(start, start + chance.randint(1, 5)):
        size = 700_000 if chance.random() < 0.01 else chance.randint(0, 2000)
        blob = b"%d %d " % (task, seq) + chance.randbytes(size)
        # The first task's messages are as good as expired: expiry runs beside the stores.
        made.append(Arrival(LogName("topic", str(task)), seq, blob, digest_of(blob), 10 if task == 0 else 1000))
    return made


async def main(path: Path, seed: int) -> None:
    async with SqliteStore.open(path) as store, trio.open_nursery() as nursery:
        watermarks = await store.watermarks([LogName("topic", str(task)) for task in range(TASKS)])

        async def keep_storing(task: int) -> None:
            last = watermarks[LogName("topic", str(task))]
            start = 0 if last is None else last + 1
            while True:
                arrivals = requests(task, start, seed)
                await store.put(arrivals)
                os.write(1, b"%d %d\n" % (task, start))
                start += len(arrivals)

        async def keep_expiring() -> None:
            while True:
                await store.expire(100, messages_max=50)
                await trio.sleep(0.005)

        nursery.start_soon(keep_expiring)
        for task in range(TASKS):
            nursery.start_soon(keep_storing, task)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
