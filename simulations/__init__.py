"""The same node in a simulated world."""
