"""Phones through the front door: paired by the documented client, let in, revoked, and strangers kept out."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from protocols.limits.admission import EXCHANGES_BURST
from tests.mailboxes import MailboxProcess
from tests.node.test_admission_processes import set_password
from tests.recorder import recorder

ROOT = Path(__file__).parent.parent.parent
PASSWORD, OTHER = "mind the gap, please", "no gap to be minded"
PAGE = (ROOT / "docs" / "pairing.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


CLIENT: dict[str, Any] = {}
exec(compile("\n".join(blocks("python")), "docs/pairing.md", "exec"), CLIENT)


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailboxProcess]:
    """One with a password, HTTP and HTTPS."""
    path = tmp_path_factory.mktemp("pairing") / "box"
    process = MailboxProcess(path, "--no-mdns", "--p2p", "127.0.0.1:0", "--https", "127.0.0.1:0")
    set_password(path, PASSWORD)
    with process:
        yield process


def where(mailbox: MailboxProcess, scheme: str = "http") -> tuple[str, str]:
    return mailbox.info[scheme][0], mailbox.info["mailbox_id"]


def raw(mailbox: MailboxProcess, path: str, value: object, **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(mailbox.info["http"][0])
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(value), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
    finally:
        connection.close()


GET = {"topics": {"tea": {}}}


def invitation(mailbox: MailboxProcess, *args: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(mailbox.command("pair", "--json", *args).stdout)
    return answer


def test_a_stranger_gets_401_and_may_still_look_at_health(mailbox: MailboxProcess) -> None:
    for path, body in (("/blips/get", GET), ("/blobs/get", GET), ("/blobs/store", {"blobs": {}}), ("/blips/store", {})):
        status, headers, text = raw(mailbox, path, body)
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="mailboxd"')
        assert b"pair" in text
    status, headers, _ = raw(mailbox, "/blips/get", GET, authorization="Bearer " + "x" * 43)
    assert (status, "invalid_token" in headers["www-authenticate"]) == (401, True)
    for odd in ("Basic Og==", "Bearer", "Bearer  ", "Bearer " + "x" * 9000, "Bearer \xff\xfe"):
        assert raw(mailbox, "/blips/get", GET, authorization=odd)[0] == 401
    assert mailbox.request("GET", "/health")[0] == 200
    assert mailbox.request("GET", "/openapi.json")[0] == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_phone_pairs_by_password_and_is_let_in(mailbox: MailboxProcess, scheme: str) -> None:
    token = CLIENT["pair_by_password"](*where(mailbox, scheme), PASSWORD, f"phone by {scheme}")
    store = {"blips": {"tea": {"alice": {"0": "aGVsbG8="}}}}
    CLIENT["post"](*where(mailbox, scheme), "/blips/store", store, token)
    assert CLIENT["read"](*where(mailbox, scheme), token, "tea")["blips"] == {"alice": {"0": "aGVsbG8="}}
    assert f"phone by {scheme}" in mailbox.command("devices").stdout


def test_a_phone_pairs_by_code_once(mailbox: MailboxProcess) -> None:
    uri = invitation(mailbox)["uri"]
    assert "&pin=sha256//" in uri
    assert "url=https://" in uri
    assert "url=http://" not in uri
    token = CLIENT["pair_by_code"](uri, "phone by code")
    assert CLIENT["read"](*where(mailbox), token, "nothing there")["blips"] == {}
    with pytest.raises(PermissionError, match="used up"):
        CLIENT["pair_by_code"](uri, "another phone")


def test_a_code_that_is_not_ours_uses_nothing_up(mailbox: MailboxProcess) -> None:
    uri = str(invitation(mailbox)["uri"])
    name = CLIENT["b64"](
        CLIENT["derive"](CLIENT["unb64"](re.findall("code=([^&]+)", uri)[0]), "mailboxd code name")[:8]
    )
    for box in ("AAAA", CLIENT["b64"](bytes(100)), CLIENT["seal"](bytes(32), {"name": "thief"})):
        assert raw(mailbox, "/pair", {"code": name, "box": box})[0] == 403
    assert CLIENT["pair_by_code"](uri, "the right one")


def test_revoking_takes_effect_at_once_also_on_open_connections(mailbox: MailboxProcess) -> None:
    token = CLIENT["pair_by_password"](*where(mailbox), PASSWORD, "lost phone")
    parts = urlsplit(where(mailbox)[0])
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    statuses = []
    for _ in range(2):
        connection.request("POST", "/blips/get", json.dumps(GET), headers)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        if len(statuses) == 1:
            device = next(
                d for d in json.loads(mailbox.command("devices", "--json").stdout) if d["name"] == "lost phone"
            )
            assert device["last_seen"] is not None
            assert "revoked" in mailbox.command("revoke", device["device"]).stdout
    connection.close()
    assert statuses == [200, 401]
    again = mailbox.command("revoke", device["device"], check=False)
    assert (again.returncode, "no paired phone" in again.stderr) == (1, True)
    assert token not in (mailbox.data_dir / "devices.json").read_text()


def test_a_preflight_allows_the_token_to_who_asks_for_it(mailbox: MailboxProcess) -> None:
    parts = urlsplit(where(mailbox)[0])
    allowed = {}
    for asked in ("content-type", "authorization, content-type"):
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        connection.request("OPTIONS", "/blips/get", headers={"origin": "x", "access-control-request-headers": asked})
        allowed[asked] = connection.getresponse().getheader("access-control-allow-headers")
        connection.close()
    assert allowed == {"content-type": "*", "authorization, content-type": "*, authorization"}


def test_a_listener_sees_neither_password_nor_token_while_pairing(mailbox: MailboxProcess) -> None:
    url, mailbox_id = where(mailbox)
    parts = urlsplit(url)
    with recorder(str(parts.hostname), int(parts.port or 0)) as (port, heard):
        relay = f"http://127.0.0.1:{port}"
        token = CLIENT["pair_by_password"](relay, mailbox_id, PASSWORD, "watched phone")
        seen = bytes(heard)
        assert len(seen) > 500
        for secret in (PASSWORD, token, "watched phone", (mailbox.data_dir / "password.key").read_text().split()[-3]):
            assert secret.encode() not in seen
        # But what follows by plain http can be read: as the page says.
        CLIENT["read"](relay, mailbox_id, token, "tea")
        assert token.encode() in bytes(heard)


def test_replayed_requests_to_pair_give_nothing(mailbox: MailboxProcess) -> None:
    sent: list[dict[str, Any]] = []
    post = CLIENT["post"]
    CLIENT["post"] = lambda url, mailbox_id, path, value, token=None: (
        sent.append(value),
        post(url, mailbox_id, path, value, token),
    )[1]
    try:
        CLIENT["pair_by_password"](*where(mailbox), PASSWORD, "recorded phone")
    finally:
        CLIENT["post"] = post
    begin, finish = sent
    assert raw(mailbox, "/pair", finish)[0] == 403
    status, _, answer = raw(mailbox, "/pair", begin)
    assert status == 200
    finish["session"] = json.loads(answer)["session"]
    assert raw(mailbox, "/pair", finish)[0] == 403


def test_a_false_mailbox_is_noticed_and_told_nothing(mailbox: MailboxProcess, tmp_path: Path) -> None:
    """It relays to one that has another password, or has another identity than it says."""
    set_password(tmp_path / "false", OTHER)
    with MailboxProcess(tmp_path / "false", "--no-mdns", "--p2p", "127.0.0.1:0") as false:
        with pytest.raises(PermissionError, match="another password"):
            CLIENT["pair_by_password"](where(false)[0], where(mailbox)[1], PASSWORD, "phone")
        assert "no phone is paired" in false.command("devices").stdout
        with pytest.raises(ConnectionError, match="between us"):
            CLIENT["pair_by_password"](where(mailbox, "https")[0], where(false)[1], PASSWORD, "phone")


def test_a_thousand_wrong_passwords_are_tried_in_vain(tmp_path: Path) -> None:
    set_password(tmp_path / "box", PASSWORD)
    with MailboxProcess(tmp_path / "box", "--no-mdns", "--p2p", "127.0.0.1:0") as box:
        token = CLIENT["pair_by_password"](*where(box), PASSWORD, "phone")
        parts = urlsplit(where(box)[0])
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        answers: dict[int, int] = {}
        shares = [CLIENT["b64"](CLIENT["spake2"].SPAKE2_A(bytes([n]) * 8).start()[1:]) for n in range(10)]
        for number in range(1000):
            body = json.dumps({"share": shares[number % 10]})
            connection.request("POST", "/pair", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            answers[answer.status] = answers.get(answer.status, 0) + 1
            if answer.status == 429:
                assert int(answer.getheader("retry-after") or 0) >= 1
        connection.close()
        assert set(answers) == {200, 429}
        assert answers[200] <= 10, answers
        # Who is paired notices nothing, and by code a phone is paired in the middle of it.
        assert CLIENT["read"](*where(box), token, "tea")["blips"] == {}
        assert CLIENT["pair_by_code"](invitation(box)["uri"], "by code")
        assert box.status()["admission"]["devices"] == 2


def test_an_open_mailbox_pairs_by_code_and_asks_nothing(tmp_path: Path) -> None:
    with MailboxProcess(tmp_path / "box", "--no-mdns", "--p2p", "127.0.0.1:0") as box:
        assert box.store("tea", "alice", {0: b"hello"}) == 201
        with pytest.raises(PermissionError, match="409"):
            CLIENT["pair_by_password"](*where(box), PASSWORD, "phone")
        shown = box.command("pair").stdout
        assert "mailboxd:pair?v=1&id=" in shown
        assert "plain HTTP" in shown
        token = CLIENT["pair_by_code"](invitation(box)["uri"], "phone")
        # A password that is set later shuts strangers out at once, and not who is paired; codes of before are void.
        earlier = invitation(box)["uri"]
        set_password(box.data_dir, PASSWORD)
        with pytest.raises(PermissionError, match="403"):
            CLIENT["pair_by_code"](earlier, "late")
        assert box.store("tea", "alice", {1: b"hello"}) == 401
        assert CLIENT["read"](*where(box), token, "tea")["blips"] == {"alice": {"0": "aGVsbG8="}}
        # The command line of this machine's user goes on.
        assert box.command("put", "tea", "bob", "0", str(ROOT / "LICENSE")).returncode == 0
        assert "bob" in box.command("get", "tea").stdout
        # A restart forgets no phone.
        assert box.stop() == 0
        assert "phone" in box.command("devices").stdout
        box.start()
        assert CLIENT["read"](*where(box), token, "tea")["blips"]["alice"]
        # Who shuts out every phone wants no open code to let one in again.
        open_code = invitation(box)["uri"]
        done = box.command("revoke", "--all").stdout
        assert "revoked" in done and "1 open code" in done
        with pytest.raises(PermissionError, match="403"):
            CLIENT["pair_by_code"](open_code, "late")
        with pytest.raises(PermissionError, match="401"):
            CLIENT["read"](*where(box), token, "tea")


def test_pair_waits_for_the_phone(mailbox: MailboxProcess) -> None:
    done: list[subprocess.CompletedProcess[str]] = []
    before = len(json.loads(mailbox.command("devices", "--json").stdout))
    waiting = threading.Thread(target=lambda: done.append(mailbox.command("pair", "--wait", "--json", check=False)))
    waiting.start()
    time.sleep(1.0)
    CLIENT["pair_by_password"](*where(mailbox), PASSWORD, "the awaited")
    waiting.join(60)
    assert done[0].returncode == 0
    assert "the awaited" in done[0].stderr
    assert len(json.loads(mailbox.command("devices", "--json").stdout)) == before + 1


def test_the_curl_commands_work(mailbox: MailboxProcess) -> None:
    token = CLIENT["pair_by_password"](*where(mailbox), PASSWORD, "curl")
    pin = json.loads(mailbox.command("identity", "--json").stdout)["https_pin"]
    commands = blocks("sh")
    assert len(commands) == 2
    for command in commands:
        text = command.replace("\\\n", "").replace("TOKEN", token).replace("sha256//…", pin)
        text = text.replace("http://192.168.1.5:3411", where(mailbox)[0])
        text = text.replace("https://192.168.1.5:3443", where(mailbox, "https")[0])
        done = subprocess.run([*shlex.split(text), "--silent"], capture_output=True, text=True, check=False, timeout=30)
        assert "blips_by_topic" in done.stdout, done


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"share": 1}', b'{"share": "!"}', b'{"share": "AAAA"}', b'{"code": "AAAA"}', b"{" * 3000,
     b'{"session": "AAAA", "proof": "AAAA", "box": "AAAA"}', b'{"code": "AAAA", "box": "AAAA", "share": "AAAA"}',
     b'{"share": "' + b"_" * 42 + b'8"}', b"\xff", b'{"share": "' + b"A" * 5000 + b'"}'],
)  # fmt: skip
def test_nonsense_is_refused(mailbox: MailboxProcess, body: bytes) -> None:
    parts = urlsplit(where(mailbox)[0])
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    connection.request("POST", "/pair", body, {"content-type": "application/json"})
    assert connection.getresponse().status in (400, 403, 413, 422, 429)
    connection.close()


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_the_document_is_true_of_pairing(mailbox: MailboxProcess, mode: schemathesis.GenerationMode) -> None:
    document = schemathesis.openapi.from_dict(json.loads(mailbox.request("GET", "/openapi.json")[1]))

    @settings(max_examples=30, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(document["/pair"]["POST"].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        answer = case.call(base_url=where(mailbox)[0])
        case.validate_response(answer, excluded_checks=[schemathesis.checks.positive_data_acceptance])

    check()


def test_who_has_the_password_can_not_have_it_computed_without_end(tmp_path: Path) -> None:
    """Each exchange costs milliseconds, and each that ends well a place among the devices; a code is not counted."""
    box = MailboxProcess(tmp_path / "box", "--no-mdns", "--p2p", "127.0.0.1:0")
    set_password(box.data_dir, PASSWORD)
    with box:
        for number in range(EXCHANGES_BURST):
            CLIENT["pair_by_password"](*where(box), PASSWORD, f"phone {number}")
        with pytest.raises(PermissionError, match="429"):
            CLIENT["pair_by_password"](*where(box), PASSWORD, "one too many")
        assert CLIENT["pair_by_code"](invitation(box)["uri"], "by code")
        assert box.status()["admission"]["devices"] == EXCHANGES_BURST + 1
