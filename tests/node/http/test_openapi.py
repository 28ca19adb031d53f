"""The OpenAPI document is true: schemathesis sends what it allows and forbids, and checks the answers against it."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from schemathesis.checks import positive_data_acceptance

from node.http.limits import HttpLimits
from node.http.openapi import openapi_document
from node.http.toy import toy_router
from node.http.turnstile import Turnstile
from node.store.memory import MemoryStore
from tests.node.http.harness import MAILBOX_ID, mailbox_over, serving


@contextmanager
def serving_in_a_thread(turnstile: Turnstile | None = None, limits: HttpLimits | None = None) -> Iterator[str]:
    """A server's URL; in a thread of its own, because schemathesis is synchronous."""
    started = threading.Event()
    found: list[str] = []
    stop: list[trio.lowlevel.TrioToken] = []
    scope = trio.CancelScope()

    async def main() -> None:
        with scope:
            router = toy_router(mailbox_over(MemoryStore()), MAILBOX_ID)
            async with serving(router, limits=limits, turnstile=turnstile) as site:
                found.append(site.url)
                stop.append(trio.lowlevel.current_trio_token())
                started.set()
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert started.wait(30)
    yield found[0]
    stop[0].run_sync_soon(scope.cancel)
    thread.join(30)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_in_a_thread() as url:
        yield url


def is_beyond_schemas(value: object) -> bool:
    """What no JSON Schema can forbid: to it 1.0 is an integer, and a string's length is counted in characters."""
    if isinstance(value, dict):
        return any(len(key.encode()) > 256 or is_beyond_schemas(member) for key, member in value.items())
    if isinstance(value, list):
        return any(is_beyond_schemas(member) for member in value)
    return isinstance(value, float) and value.is_integer()


GOOD, BAD = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
POSTS = [f"/{family}/{verb}" for family in ("blobs", "blips") for verb in ("store", "get")]
CASES = [("GET", path, GOOD) for path in ("/health", "/openapi.json")]
CASES += [("POST", path, mode) for path in POSTS for mode in (GOOD, BAD)]


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_answers_are_as_the_document_says(url: str, method: str, path: str, mode: schemathesis.GenerationMode) -> None:
    document = schemathesis.openapi.from_dict(openapi_document())

    @settings(
        max_examples=30,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(document[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        assume(not is_beyond_schemas(case.body))
        answer = case.call_and_validate(base_url=url)
        if mode is GOOD:
            assert answer.status_code in (200, 201)

    check()


@pytest.mark.parametrize("path", [path for path in POSTS if path.endswith("store")])
def test_answers_in_a_flood_are_as_the_document_says(path: str) -> None:
    document = schemathesis.openapi.from_dict(openapi_document())
    limits = HttpLimits(trust_loopback=False, requests_per_client_rate=1e6)
    turnstile = Turnstile(limits)
    turnstile.look = lambda **_looks: None  # type: ignore[method-assign] # it feels strain all the time
    turnstile.pressure.bits = 24
    turnstile.pressure.is_high = True
    turnstile.may_connect = lambda _client, _now_s: True  # type: ignore[method-assign] # schemathesis connects anew
    with serving_in_a_thread(turnstile, limits) as url:

        @settings(max_examples=30, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(document[path]["POST"].as_strategy(generation_mode=GOOD))
        def check(case: schemathesis.Case) -> None:
            answer = case.call_and_validate(base_url=url, excluded_checks=[positive_data_acceptance])
            assert answer.status_code == 429
            assert answer.headers["mailbox-challenge"][0].startswith("bits=24, nonce=")

        check()


def test_the_document_is_served(url: str) -> None:
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        assert json.load(answer) == openapi_document()


def test_the_document_names_exactly_the_routes_there_are() -> None:
    routes = toy_router(mailbox_over(MemoryStore()), MAILBOX_ID).routes
    served = {path: {method.lower() for method in methods} - {"head"} for path, methods in routes.items()}
    assert served == {path: set(methods) for path, methods in openapi_document()["paths"].items()}


@given(st.integers(0, 2**65) | st.integers(2**64 - 20, 2**64 + 20))
@example(2**64 - 1)
@example(2**64)
def test_the_pattern_of_a_seq_is_exact(number: int) -> None:
    pattern = openapi_document()["components"]["schemas"]["SeqKey"]["pattern"]
    assert bool(re.fullmatch(pattern, str(number))) is (number < 2**64)
    assert not re.fullmatch(pattern, f"0{number}")
