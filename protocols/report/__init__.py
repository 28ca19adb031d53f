"""Convergence reports: two mailboxes sign that they hold the same at one moment. The spec is `report.md`.

`statement` is what each of them signs, `exchange` how they come to it, `verdict` what the two statements prove.
"""
