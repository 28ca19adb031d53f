"""What `mailboxd bench` measures. Each module gives figures as frozen dataclasses, free of printing.

Read `store.py` first (the store beside raw SQLite), then `http.py`, `transfer.py` and `reconcile.py`. `suite.py` runs
all of them, `tables.py` and `pictures.py` show the results. What they share: `messages.py` (what is stored),
`rates.py` (rates and percentiles), `processes.py` (other processes' memory and CPU), `raw_sqlite.py` (the ceiling).
docs/benchmarks.md says what the figures mean and what they don't.
"""
