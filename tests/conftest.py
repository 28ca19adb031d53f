"""Fixtures for all tests."""

import signal
import threading

from hypothesis import HealthCheck, settings

from tests.netns import lan

__all__ = ["lan"]

# No test asserts how long something takes, so Hypothesis doesn't either: a busy machine is no fault.
settings.register_profile("mailboxd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mailboxd")


def pytest_configure() -> None:
    """What runs in the background of a script is started with Ctrl-C ignored, and so is all that it starts: tests that
    press it would wait for ever."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
