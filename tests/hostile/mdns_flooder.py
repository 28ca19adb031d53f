"""A process for tests: a hostile machine on the LAN.

    python -m tests.hostile.mdns_flooder VICTIM_SEED VICTIM_ADDRESS TIMES

Sends 10,000 invented names TIMES times over, with absurd addresses, its own listener or the victim's address behind
them, garbage TXT records, garbage packets, and forged announcements and goodbyes of the victim. Prints JSON lines.
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator

import ifaddr
from zeroconf import DNSAddress, DNSOutgoing, DNSPointer, DNSService, DNSText

from protocols.discovery import SERVICE_TYPE
from protocols.model import MailboxId
from tests.node.discovery.agent import mailbox_of
from tests.node.discovery.others import own_address

NAMES = 10_000
DRAW = random.Random(1)
ABSURD = ["0.0.0.0", "255.255.255.255", "224.0.0.251", "127.0.0.1", "8.8.8.8", "240.0.0.1", "10.77.255.255"]
connections = itertools.count()


def listen() -> int:
    """A listener that counts who falls for it."""
    server = socket.create_server(("", 0), backlog=500)

    def accept() -> None:
        while True:
            server.accept()[0].close()
            next(connections)

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def packets(victim: MailboxId, address: str, port: int) -> list[bytes]:
    sent = [*forged(victim, port)]
    names = 0
    while names < NAMES:
        out = DNSOutgoing(0x8400)
        for _ in range(8):
            names += 1
            mailbox_id = MailboxId(DRAW.randbytes(32))
            label = DRAW.choice([str(mailbox_id), mailbox_id.base32, mailbox_id.base32.lower(), f"{mailbox_id} (2)"])
            name, host = f"{label}.{SERVICE_TYPE}", f"{label}.local."
            out.add_answer_at_time(DNSPointer(SERVICE_TYPE, 12, 1, 4500, name), 0)
            where = DRAW.choice([port, 3411, 1, 0])
            out.add_answer_at_time(DNSService(name, 33, 1, 4500, 0, 0, where, host), 0)
            if DRAW.random() < 0.3:
                out.add_answer_at_time(DNSText(name, 16, 1, 4500, DRAW.randbytes(DRAW.randrange(60))), 0)
            for text in DRAW.sample([*ABSURD, own_address(), address, f"192.168.0.{DRAW.randrange(255)}"], 3):
                out.add_additional_answer(DNSAddress(host, 1, 1, 4500, socket.inet_aton(text)))
        sent += out.packets()
        damaged = bytearray(sent[-1])
        for _ in range(DRAW.randrange(1, 6)):
            damaged[DRAW.randrange(len(damaged))] = DRAW.randrange(256)
        sent += [bytes(damaged), DRAW.randbytes(DRAW.randrange(80)) + b"_dashchat"]
    DRAW.shuffle(sent)
    return sent


def forged(victim: MailboxId, port: int) -> list[bytes]:
    """The victim said goodbye; it moved to our address; its name has another case."""
    name = f"{victim}.{SERVICE_TYPE}"
    goodbye = DNSOutgoing(0x8400)
    goodbye.add_answer_at_time(DNSPointer(SERVICE_TYPE, 12, 1, 0, name), 0)
    moved = DNSOutgoing(0x8400)
    moved.add_answer_at_time(DNSService(name, 33, 0x8001, 120, 0, 0, port, "evil.local."), 0)
    moved.add_answer_at_time(DNSText(name, 16, 0x8001, 120, b""), 0)
    moved.add_additional_answer(DNSAddress("evil.local.", 1, 0x8001, 120, socket.inet_aton(own_address())))
    swapped = DNSOutgoing(0x8400)
    swapped.add_answer_at_time(DNSPointer(SERVICE_TYPE, 12, 1, 0, name.swapcase()), 0)
    return [packet for out in (goodbye, moved, swapped) for packet in out.packets()] * 20


def senders() -> Iterator[socket.socket]:
    """A socket for each address of ours, in turn."""
    socks = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if isinstance(ip.ip, str) and not ip.ip.startswith("127."):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ip.ip))
                sock.bind((ip.ip, 5353))
                socks.append(sock)
    return itertools.cycle(socks)


def main(seed: str, address: str, times: str) -> None:
    socks = senders()
    everything = packets(mailbox_of(seed), address, listen())
    print(json.dumps({"started": True}), flush=True)
    for _ in range(int(times)):
        for number, packet in enumerate(everything):
            next(socks).sendto(packet, ("224.0.0.251", 5353))
            if number % 20 == 0:
                time.sleep(0.005)  # a steady flood rather than one burst that the kernel drops
    print(json.dumps({"flooded": len(everything) * int(times), "connections": next(connections)}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
