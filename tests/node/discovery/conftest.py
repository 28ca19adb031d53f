from tests.netns import lan

__all__ = ["lan"]
