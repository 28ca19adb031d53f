"""Processes for tests that stand for the other implementations on a LAN; each prints JSON lines.

    python -m tests.node.discovery.others app SEED       the app's local mailbox, older generation: python-zeroconf
    python -m tests.node.discovery.others swarm SEED     the newer generation: TTL 0, no PTR, base32 only
    python -m tests.node.discovery.others browse         python-zeroconf looking for mailboxes
    python -m tests.node.discovery.others swarm-browse   reads answers as the newer generation does

All but the browsers listen on TCP port 3000.
"""

from __future__ import annotations

import base64
import json
import signal
import socket
import struct
import sys
import threading
import time

from zeroconf import (
    DNSAddress,
    DNSIncoming,
    DNSOutgoing,
    DNSQuestion,
    DNSService,
    ServiceBrowser,
    ServiceInfo,
    ServiceListener,
    Zeroconf,
)

from tests.node.discovery.agent import mailbox_of

TYPE = "_dashchat._tcp.local."
PORT = 3000


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("224.0.0.251", 5353))
        return str(sock.getsockname()[0])


def listen() -> None:
    server = socket.create_server(("", PORT))

    def accept() -> None:
        while True:
            server.accept()[0].close()

    threading.Thread(target=accept, daemon=True).start()


def app(seed: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before there are threads that would take it
    listen()
    label = str(mailbox_of(seed))
    zeroconf = Zeroconf(interfaces=[own_address()])
    info = ServiceInfo(TYPE, f"{label}.{TYPE}", port=PORT, server=f"{label}.local.", parsed_addresses=[own_address()])
    zeroconf.register_service(info)
    say(started=True)
    signal.sigwait({signal.SIGTERM})
    zeroconf.close()


def multicast() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("", 5353))
    member = socket.inet_aton("224.0.0.251") + socket.inet_aton(own_address())
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("B", 255))
    return sock


def swarm(seed: str) -> None:
    listen()
    label = mailbox_of(seed).base32.lower()
    sock = multicast()
    out = DNSOutgoing(0x8400)
    target = f"{label}-{PORT}.local."
    out.add_answer_at_time(DNSService(f"{label}.{TYPE}", 33, 1, 0, 0, 0, PORT, target), 0)
    out.add_additional_answer(DNSAddress(target, 1, 1, 0, socket.inet_aton(own_address())))
    (packet,) = out.packets()
    say(started=True)
    while True:
        data = sock.recv(9000)
        message = DNSIncoming(data)
        if message.is_query() and any(q.name == TYPE and q.type == 12 for q in message.questions):
            sock.sendto(packet, ("224.0.0.251", 5353))


def browse() -> None:
    zeroconf = Zeroconf(interfaces=[own_address()])
    wanted: list[tuple[str, str]] = []

    class Listener(ServiceListener):
        def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            wanted.append(("added", name))

        def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            wanted.append(("removed", name))

        def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            pass

    ServiceBrowser(zeroconf, TYPE, Listener())
    say(started=True)
    while True:
        while wanted:
            what, name = wanted.pop(0)
            label = name.removesuffix("." + TYPE)
            if what == "removed":
                say(removed=label)
                continue
            info = zeroconf.get_service_info(TYPE, name, 5000)
            if info is not None:
                txt = {k.decode(): (v or b"").decode() for k, v in info.properties.items()}
                say(added=label, host=info.server, port=info.port, addresses=info.parsed_addresses(), txt=txt)
        time.sleep(0.05)


def swarm_browse() -> None:
    """Asks as the newer generation does, and takes SRV from the answer section, addresses from the additional one."""
    sock = multicast()
    sock.settimeout(0.7)
    out = DNSOutgoing(0)
    out.add_question(DNSQuestion(TYPE, 12, 1))
    (question,) = out.packets()
    say(started=True)
    while True:
        sock.sendto(question, ("224.0.0.251", 5353))
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            try:
                message = DNSIncoming(sock.recv(9000))
            except TimeoutError:
                break
            if message.is_query():
                continue
            records = message.answers()
            answers, additionals = records[: message.num_answers], records[message.num_answers :]
            for record in answers:
                label = record.name.split(".")[0]
                if isinstance(record, DNSService) and is_base32(label):
                    addresses = [socket.inet_ntoa(a.address) for a in additionals if a.name == record.server]
                    say(hub=label, port=record.port, addresses=addresses)


def is_base32(label: str) -> bool:
    try:
        return len(base64.b32decode(label.upper() + "====")) == 32
    except ValueError:
        return False


if __name__ == "__main__":
    {"app": app, "swarm": swarm, "browse": browse, "swarm-browse": swarm_browse}[sys.argv[1]](*sys.argv[2:])
