"""Login codes and sessions: once, soon, bounded, and worth nothing in parts."""

from __future__ import annotations

import pytest

from node.http.admin.sessions import KEY_HEADER, Login, Sessions
from protocols.limits.shedding import DASHBOARD_CODE_S, DASHBOARD_CODES_MAX, DASHBOARD_SESSION_S, DASHBOARD_SESSIONS_MAX


class Watch:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def sessions(watch: Watch) -> Sessions:
    return Sessions("abc", now_at=watch)


def enter(sessions: Sessions) -> Login:
    login = sessions.exchange(sessions.new_code())
    assert login is not None
    return login


def headers(login: Login) -> dict[str, str]:
    return {"cookie": f"other=1; {login.set_cookie.partition(';')[0]}; more=2", KEY_HEADER: login.key}


def test_a_code_works_once(sessions: Sessions) -> None:
    code = sessions.new_code()
    assert sessions.exchange(code) is not None
    assert sessions.exchange(code) is None
    assert sessions.exchange("") is None


def test_a_code_works_soon_or_not_at_all(sessions: Sessions, watch: Watch) -> None:
    code = sessions.new_code()
    watch.at += DASHBOARD_CODE_S + 1
    assert sessions.exchange(code) is None


def test_codes_are_bounded(sessions: Sessions) -> None:
    codes = [sessions.new_code() for _ in range(DASHBOARD_CODES_MAX + 1)]
    assert sessions.exchange(codes[0]) is None
    assert sessions.exchange(codes[1]) is not None


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(sessions: Sessions) -> None:
    cookie = enter(sessions).set_cookie
    assert cookie.startswith("mailboxd-abc=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/admin"} <= {part.strip() for part in cookie.split(";")}


def test_cookie_and_key_are_worth_nothing_alone(sessions: Sessions) -> None:
    one, other = enter(sessions), enter(sessions)
    assert sessions.admits(headers(one))
    assert not sessions.admits({})
    assert not sessions.admits(headers(one) | {KEY_HEADER: ""})
    assert not sessions.admits(headers(one) | {KEY_HEADER: other.key})
    assert not sessions.admits({KEY_HEADER: one.key})
    assert not sessions.admits(headers(one) | {KEY_HEADER: "\xe9" * 43})
    assert one.key not in one.set_cookie


def test_a_session_that_nobody_uses_ends(sessions: Sessions, watch: Watch) -> None:
    used, unused = enter(sessions), enter(sessions)
    watch.at += DASHBOARD_SESSION_S - 10
    assert sessions.admits(headers(used))
    watch.at += 20
    assert sessions.admits(headers(used))
    assert not sessions.admits(headers(unused))


def test_sessions_are_bounded_and_the_one_unused_for_longest_goes(sessions: Sessions) -> None:
    all_of_them = [enter(sessions) for _ in range(DASHBOARD_SESSIONS_MAX)]
    assert sessions.admits(headers(all_of_them[0]))
    enter(sessions)
    assert sessions.admits(headers(all_of_them[0]))
    assert not sessions.admits(headers(all_of_them[1]))


def test_signing_out_ends_it(sessions: Sessions) -> None:
    login = enter(sessions)
    assert "Max-Age=0" in sessions.end(headers(login))
    assert not sessions.admits(headers(login))
