"""Where messages are kept: one interface (`api`), SQLite (`sqlite`) and memory (`memory`).

Start with `api.py`, then `sqlite.py`; what every implementation promises is tested in `tests/contracts/test_store.py`.
"""

from node.store.api import (
    Arrival,
    Change,
    ItemColumns,
    LogEntries,
    MessagesPage,
    Position,
    PutResult,
    ReadPage,
    ScanPage,
    Statistics,
    Store,
    StoredItem,
    StoreError,
    StoreFull,
    StoreUnavailable,
    VerifyReport,
)

__all__ = [
    "Arrival",
    "Change",
    "ItemColumns",
    "LogEntries",
    "MessagesPage",
    "Position",
    "PutResult",
    "ReadPage",
    "ScanPage",
    "Statistics",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "StoredItem",
    "VerifyReport",
]
