"""Fixtures for all tests."""

from tests.netns import lan

__all__ = ["lan"]
