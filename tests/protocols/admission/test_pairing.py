"""Pairing's cryptography: both ways come to the same keys, anything else to an error."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.secret import SecretBox

from protocols.admission.pairing import (
    PairingKeys,
    Phone,
    WrongPassword,
    check_device_name,
    code_keys,
    code_name,
    opened_grant,
    opened_name,
    password_keys,
    password_pake,
    sealed_grant,
    sealed_name,
)
from protocols.errors import RemoteProtocolError
from protocols.limits.admission import PAIRING_BOX_BYTES_MAX
from tests.protocols.admission.play import ALICE, BOB, entropy
from tests.protocols.admission.test_exchange import VECTORS

KEYS = PairingKeys(b"p" * 32, b"m" * 32)
SESSION = b"s" * 16
names = st.text(st.characters(min_codepoint=32, exclude_categories=["C", "Z"]), min_size=1, max_size=64)


def pair(phone_secret: bytes, mailbox_secret: bytes, *, claimed: bytes = ALICE) -> tuple[PairingKeys, PairingKeys]:
    phone = Phone(phone_secret, claimed, entropy("phone"))
    pake = password_pake(mailbox_secret, ALICE, is_phone=False, entropy=entropy("mailbox"))
    share = pake.share()
    theirs = password_keys(pake.key(phone.share), ALICE, phone.share, share, SESSION)
    return phone.finish(SESSION, share, theirs.mailbox_proof), theirs


def test_the_same_password_gives_the_same_keys() -> None:
    ours, theirs = pair(b"secret", b"secret")
    assert ours == theirs
    assert len({ours.phone_box, ours.mailbox_box, ours.phone_proof, ours.mailbox_proof}) == 4


@pytest.mark.parametrize(("secret", "claimed"), [(b"other", ALICE), (b"secret", BOB)])
def test_another_password_or_another_mailbox_is_noticed_by_the_phone(secret: bytes, claimed: bytes) -> None:
    with pytest.raises(WrongPassword):
        pair(secret, b"secret", claimed=claimed)


@given(names, st.text(max_size=64))
def test_boxes_open_with_their_key_only(name: str, token: str) -> None:
    assert opened_name(KEYS, sealed_name(KEYS, name, entropy("a"))) == name
    assert opened_grant(KEYS, sealed_grant(KEYS, token, "device", entropy("a"))) == (token, "device")
    turned = PairingKeys(KEYS.mailbox_box, KEYS.phone_box)
    with pytest.raises(RemoteProtocolError):
        opened_name(turned, sealed_name(KEYS, name, entropy("a")))
    with pytest.raises(RemoteProtocolError):
        opened_grant(KEYS, sealed_name(KEYS, name, entropy("a")))  # thrown back


@given(st.binary(max_size=PAIRING_BOX_BYTES_MAX + 10))
@example(b"")
@example(bytes(24))
@example(bytes(40))
def test_any_bytes_are_refused(box: bytes) -> None:
    for opened in (opened_name, opened_grant):
        with pytest.raises(RemoteProtocolError):
            opened(KEYS, box)


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"name": 1}')
@example(b'{"name": "\\u0000"}')
@example(b'{"name": ""}')
@settings(max_examples=200)
def test_any_content_of_a_box_is_a_name_or_an_error(content: bytes) -> None:
    box = bytes(SecretBox(KEYS.phone_box).encrypt(content, bytes(24)))
    try:
        name = opened_name(KEYS, box)
    except RemoteProtocolError:
        return
    assert check_device_name(name) == name


def test_the_keys_are_as_in_the_vectors() -> None:
    vector = {key: bytes.fromhex(text) for key, text in VECTORS["pairing"].items()}
    keys = code_keys(vector["code"], vector["mailbox"])
    assert code_name(vector["code"]) == vector["code_name"]
    assert (keys.phone_box, keys.mailbox_box) == (vector["code_phone_box"], vector["code_mailbox_box"])
    by_password = password_keys(
        vector["key"], vector["mailbox"], vector["phone_share"], vector["mailbox_share"], vector["session"]
    )
    assert by_password == PairingKeys(
        vector["phone_box"], vector["mailbox_box"], vector["mailbox_proof"], vector["phone_proof"]
    )
    secret = bytes.fromhex(VECTORS["secret"]["phones"])
    pake = password_pake(secret, vector["mailbox"], is_phone=True, entropy=lambda size: vector["phone_entropy"][:size])
    assert pake.share() == vector["phone_share"]
    assert pake.key(vector["mailbox_share"]) == vector["key"]
