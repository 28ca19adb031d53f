"""Scenarios played on real processes in real networks."""
