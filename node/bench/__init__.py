"""What `mailboxd bench` measures. Each module gives figures as frozen dataclasses, free of printing.

Read `reconcile.py` first (what finding differences costs, between the two mailboxes of `pair.py`; `yardstick.py` has
what it is measured against, `required.py` what must hold), then `store.py` (beside `raw_sqlite.py`, the ceiling),
`http.py` and `transfer.py`. `suite.py` runs all of them, `pictures.py` draws the results. What they share:
`messages.py` (what is stored), `rates.py` (rates and percentiles), `processes.py` (other processes' memory and CPU).
docs/benchmarks.md says what the figures mean and what they don't.
"""
