"""The admission exchange: who is admitted, who is not and why, and what a frame that was tampered with does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import protocols.admission
from protocols.admission.exchange import Admitted, NotAdmitted, Ticket, Why
from protocols.admission.messages import (
    Answer,
    Hello,
    Message,
    Needs,
    Outcome,
    Proof,
    Share,
    Verdict,
    decode,
    encode,
)
from protocols.admission.pake import Pake
from protocols.admission.secret import check_password, derive, for_mailboxes, for_phones, stretch
from protocols.errors import RemoteProtocolError
from protocols.limits.admission import ADMISSION_FRAME_BYTES_MAX, ADMISSION_PAUSE_MAX_S
from tests.protocols.admission.play import ALICE, BOB, MALLORY, Wire, entropy, party, play

SECRET, OTHER = b"s" * 32, b"o" * 32

few = settings(max_examples=25, deadline=None)


def why(outcome: object) -> Why | None:
    return outcome.why if isinstance(outcome, NotAdmitted) else None


@given(st.binary(min_size=1, max_size=40), st.integers(0, 1000))
@few
def test_the_same_secret_admits_both_and_leaves_the_same_ticket(secret: bytes, seed: int) -> None:
    a, b, first, second = play(
        party(ALICE, BOB, secret, seed=str(seed)), party(BOB, ALICE, secret, seed=f"other {seed}")
    )
    assert isinstance(a, Admitted)
    assert a == b
    assert a.proven
    assert a.ticket is not None
    assert (first.guesses, second.guesses) == (1, 1)


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
@few
def test_different_secrets_admit_nobody(one: bytes, other: bytes) -> None:
    if one == other:
        return
    wire = Wire()
    a, b, _, _ = play(party(ALICE, BOB, one), party(BOB, ALICE, other), wire)
    assert (why(a), why(b)) == (Why.OTHER_PASSWORD, Why.OTHER_PASSWORD)
    assert [type(decode(frame)) for _, frame in wire.frames] == [
        Hello,
        Hello,
        Share,
        Answer,
    ]  # no proof of the initiator


@pytest.mark.parametrize("field", ["network", "peer of the first", "peer of the second"])
def test_who_and_where_is_part_of_what_is_proven(field: str) -> None:
    first = party(ALICE, MALLORY if "first" in field else BOB, SECRET, network="x" if field == "network" else "main")
    second = party(BOB, MALLORY if "second" in field else ALICE, SECRET)
    a, b, _, _ = play(first, second)
    assert why(a) is why(b) is Why.OTHER_PASSWORD


def test_a_relay_between_two_who_share_a_password_gets_nowhere() -> None:
    """Mallory is connected with both under its own key and hands every frame on."""
    for who in (ALICE, BOB):
        a, b, _, _ = play(party(who, MALLORY, SECRET), party(BOB if who is ALICE else ALICE, MALLORY, SECRET))
        assert why(a) is why(b) is Why.OTHER_PASSWORD


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((None, Needs.NOTHING), (None, Needs.NOTHING), (None, None)),
        ((SECRET, Needs.PROOF), (None, Needs.NOTHING), (Why.NO_PASSWORD_THERE, Why.NO_PASSWORD_HERE)),
        ((None, Needs.NOTHING), (SECRET, Needs.PROOF), (Why.NO_PASSWORD_HERE, Why.NO_PASSWORD_THERE)),
        ((SECRET, Needs.NOTHING), (None, Needs.NOTHING), (None, None)),  # trusted, and open
        ((SECRET, Needs.NOTHING), (OTHER, Needs.NOTHING), (None, None)),  # trust each other
        ((SECRET, Needs.NOTHING), (OTHER, Needs.PROOF), (Why.OTHER_PASSWORD, Why.OTHER_PASSWORD)),
        ((SECRET, Needs.NEVER), (SECRET, Needs.PROOF), (Why.REFUSED_BY_US, Why.REFUSED_BY_PEER)),
        ((None, Needs.NOTHING), (None, Needs.NEVER), (Why.REFUSED_BY_PEER, Why.REFUSED_BY_US)),
    ],
)
def test_needs_decide(
    ours: tuple[bytes | None, Needs], theirs: tuple[bytes | None, Needs], expected: tuple[Why | None, Why | None]
) -> None:
    a, b, _, _ = play(party(ALICE, BOB, ours[0], needs=ours[1]), party(BOB, ALICE, theirs[0], needs=theirs[1]))
    assert (why(a), why(b)) == expected
    if expected == (None, None):
        assert a == b == Admitted()


def ticket() -> Ticket:
    a, _, _, _ = play(party(ALICE, BOB, SECRET), party(BOB, ALICE, SECRET))
    assert isinstance(a, Admitted)
    assert a.ticket is not None
    return a.ticket


@pytest.mark.parametrize("turned", [False, True])
def test_a_ticket_makes_the_next_time_cheap_from_either_side(turned: bool) -> None:
    kept = ticket()
    first, second = (BOB, ALICE) if turned else (ALICE, BOB)
    wire = Wire()
    a, b, one, two = play(
        party(first, second, SECRET, ticket=kept, seed="2"), party(second, first, SECRET, ticket=kept, seed="3"), wire
    )
    assert a == b == Admitted(kept, proven=True)
    assert (one.guesses, two.guesses) == (0, 0)
    assert [type(decode(frame)) for _, frame in wire.frames] == [Hello, Hello, Proof, Proof]


def test_a_ticket_that_one_side_forgot_leads_to_the_whole_exchange() -> None:
    a, b, _, two = play(party(ALICE, BOB, SECRET, ticket=ticket()), party(BOB, ALICE, SECRET))
    assert isinstance(a, Admitted)
    assert a == b
    assert two.guesses == 1


def test_a_ticket_of_the_same_name_with_another_key_is_worth_nothing() -> None:
    kept = ticket()
    forged = Ticket(kept.name, b"k" * 32)
    a, b, _, _ = play(party(ALICE, BOB, SECRET, ticket=forged), party(BOB, ALICE, SECRET, ticket=kept))
    assert (why(a), why(b)) == (Why.LATER, Why.LATER)


def test_recorded_frames_are_worth_nothing_later() -> None:
    """Mallory recorded Alice's side of a good exchange (of either kind) and plays it to Bob, as if it were Alice."""
    kept = ticket()
    for held in (None, kept):
        wire = Wire()
        play(party(ALICE, BOB, SECRET, ticket=held), party(BOB, ALICE, SECRET, ticket=held), wire)
        recorded = [frame for who, frame in wire.frames if who == "initiator"]
        replay = Wire(lambda who, number, frame, old=recorded: old[number] if who == "initiator" else frame)
        _, b, _, _ = play(
            party(ALICE, BOB, SECRET, ticket=held, seed="now"),
            party(BOB, ALICE, SECRET, ticket=held, seed="now"),
            replay,
        )
        assert not isinstance(b, Admitted)


@given(
    st.sampled_from(["initiator", "responder"]),
    st.integers(0, 2),
    st.integers(0, 95),
    st.integers(1, 255),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_admits_nobody_who_must_not_be(
    who: str, number: int, at: int, flip: int, has_ticket: bool
) -> None:
    held = ticket() if has_ticket else None
    touched = False

    def change(sender: str, count: int, frame: bytes) -> bytes:
        nonlocal touched
        if (sender, count) != (who, number) or at >= len(frame):
            return frame
        touched = True
        return frame[:at] + bytes([frame[at] ^ flip]) + frame[at + 1 :]

    a, b, _, _ = play(party(ALICE, BOB, SECRET, ticket=held), party(BOB, ALICE, SECRET, ticket=held), Wire(change))
    if touched:
        # The one who is still owed something can't be satisfied; whoever spoke last can't know.
        assert not (isinstance(a, Admitted) and isinstance(b, Admitted))


def test_needs_can_not_be_talked_down_by_who_sits_in_between() -> None:
    """A changed hello changes what is proven; and Noise would not let it through in the first place."""

    def change(sender: str, count: int, frame: bytes) -> bytes:
        message = decode(frame)
        if isinstance(message, Hello):
            return encode(Hello(Needs.NOTHING, message.nonce, message.generation, message.ticket))
        return frame

    a, b, _, _ = play(party(ALICE, BOB, SECRET), party(BOB, ALICE, SECRET), Wire(change))
    assert not isinstance(a, Admitted)
    assert not isinstance(b, Admitted)


def test_a_known_other_password_is_not_tried_again() -> None:
    second = party(BOB, ALICE, OTHER)
    wire = Wire()
    a, b, one, two = play(party(ALICE, BOB, SECRET, known_other=second.generation), second, wire)
    assert why(a) is why(b) is Why.OTHER_PASSWORD
    assert (one.guesses, two.guesses) == (0, 0)
    assert len(wire.frames) == 2


def test_too_many_guesses_are_told_to_wait() -> None:
    wire = Wire()
    a, b, _, _ = play(party(ALICE, BOB, SECRET), party(BOB, ALICE, SECRET), wire, pause_s=7.2)
    assert isinstance(a, NotAdmitted)
    assert (a.why, a.pause_s) == (Why.LATER, 8.0)
    assert why(b) is Why.LATER
    assert not any(isinstance(decode(frame), Answer | Proof) for _, frame in wire.frames)


def test_who_breaks_off_after_the_answer_is_not_admitted() -> None:
    a, b, _, two = play(
        party(ALICE, BOB, SECRET),
        party(BOB, ALICE, SECRET),
        Wire(lambda who, number, frame: None if (who, number) == ("initiator", 2) else frame),
    )
    assert not isinstance(a, Admitted)
    assert why(b) is Why.OTHER_PASSWORD
    assert two.guesses == 1


def test_a_mirror_is_not_admitted() -> None:
    pake = Pake(SECRET, first=True, id_first=ALICE, id_second=ALICE, entropy=entropy("a"))
    with pytest.raises(RemoteProtocolError):
        pake.key(pake.share())


# --- frames -----------------------------------------------------------------------------------------------------------

EXAMPLES: list[Message] = [
    Hello(Needs.PROOF, b"n" * 32, b"g" * 16, b"t" * 8),
    Hello(Needs.NEVER, b"n" * 32),
    Share(b"s" * 32),
    Answer(b"s" * 32, b"p" * 32),
    Proof(b"p" * 32),
    Verdict(Outcome.LATER, ADMISSION_PAUSE_MAX_S),
]


@pytest.mark.parametrize("message", EXAMPLES)
def test_messages_survive_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message
    assert len(encode(message)) <= ADMISSION_FRAME_BYTES_MAX


@given(st.binary(max_size=300))
@example(b"\x92\x02\xdd\xff\xff\xff\xff")
@example(b"\x93\x05\x00\xcd\xff\xff")
@example(b"\x95\x01\x09\xc4\x00\xc4\x00\xc4\x00")
@example(b"\x90")
@example(b"\xc0")
@settings(max_examples=500)
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    try:
        message = decode(data)
    except RemoteProtocolError:
        return
    assert encode(message) == data


@given(st.sampled_from(EXAMPLES), st.integers(0, 120), st.binary(min_size=1, max_size=4))
@settings(max_examples=500)
def test_damaged_frames_are_a_message_or_an_error(message: Message, at: int, junk: bytes) -> None:
    frame = encode(message)
    test_any_bytes_are_a_message_or_an_error.hypothesis.inner_test(frame[:at] + junk + frame[at + len(junk) :])  # type: ignore[attr-defined]


@pytest.mark.parametrize("y", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_points_of_small_order_are_no_shares_however_they_are_spelt(y: int, sign: int) -> None:
    pake = Pake(bytes(32), first=False, id_first=b"a", id_second=b"b", entropy=os.urandom)
    pake.share()
    with pytest.raises(RemoteProtocolError, match="not a share"):
        pake.key((y | sign << 255).to_bytes(32, "little"))


@given(st.binary(min_size=32, max_size=32))
@example(bytes(32))
@example(b"\x01" + bytes(31))
@example(b"\xff" * 32)
@settings(max_examples=60, deadline=None)
def test_any_share_gives_a_key_or_an_error(share: bytes) -> None:
    pake = Pake(SECRET, first=False, id_first=ALICE, id_second=BOB, entropy=entropy("x"))
    pake.share()
    try:
        key = pake.key(share)
    except RemoteProtocolError:
        return
    assert len(key) == 32


# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "reason"),
    [("short", "5 characters"), ("tab\tinside", "control"), ("eight  \n", "control"), ("aaaaaaaaaa", "repeated"),
     (" leading space", "space"), ("x y" * 400, "longer than 1024"), ("\ud800" + "abcdefgh", "control")],
)  # fmt: skip
def test_bad_passwords_are_refused_with_a_reason(password: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_password(password)


def test_two_ways_to_type_an_umlaut_are_one_password() -> None:
    assert check_password("Grüße aus Köln") == check_password("Gru\u0308ße aus Ko\u0308ln")


# --- the vectors ---------------------------------------------------------------------------------------------------

VECTORS: dict[str, Any] = json.loads((Path(protocols.admission.__file__).parent / "vectors.json").read_text())


def test_the_secret_is_as_in_the_vectors() -> None:
    vector = VECTORS["secret"]
    secret = stretch(vector["password"])
    assert secret.hex() == vector["stretched"]
    assert for_mailboxes(secret).hex() == vector["mailboxes"]
    assert for_phones(secret).hex() == vector["phones"]


@pytest.mark.parametrize("vector", VECTORS["exchanges"], ids=lambda vector: vector["name"])
def test_the_exchange_is_as_in_the_vectors(vector: dict[str, Any]) -> None:
    held = Ticket(*(bytes.fromhex(vector["held"][key]) for key in ("name", "key"))) if vector["held"] else None
    secret = bytes.fromhex(VECTORS["secret"]["mailboxes"])
    wire = Wire()
    a, b, _, _ = play(
        party(ALICE, BOB, secret, ticket=held, seed=vector["seed"]),
        party(BOB, ALICE, secret, ticket=held, seed=vector["seed"]),
        wire,
    )
    assert [frame.hex() for _, frame in wire.frames] == vector["frames"]
    assert isinstance(a, Admitted)
    assert a == b
    assert a.ticket is not None
    assert {"name": a.ticket.name.hex(), "key": a.ticket.key.hex()} == vector["ticket"]


def test_the_proofs_follow_from_the_spec() -> None:
    """Worked out anew from the text: hellos, ids and the ticket's key give the proofs of the short exchange."""
    vector = next(vector for vector in VECTORS["exchanges"] if vector["held"])
    hello_i, hello_r, proof_i, proof_r = (bytes.fromhex(frame) for frame in vector["frames"])
    context = derive(
        b"", "mailboxd admission", b"/mailboxd/admission/1", b"main",
        bytes.fromhex(VECTORS["initiator"]), bytes.fromhex(VECTORS["responder"]), hello_i, hello_r,
    )  # fmt: skip
    key = bytes.fromhex(vector["ticket"]["key"])
    for frame, label in ((proof_i, "mailboxd initiator again"), (proof_r, "mailboxd responder again")):
        assert frame == b"\x92\x04\xc4\x20" + derive(key, label, context)
