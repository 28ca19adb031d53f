"""`mailboxd bench all`: every measurement, one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from node.bench.claims import Claim
from node.bench.http import HttpReport, measure_http
from node.bench.reconcile import ReconcileCase, measure_reconcile
from node.bench.required import reconcile_claims
from node.bench.store import StoreReport, measure_store
from node.bench.transfer import TransferReport, measure_transfer
from node.bench.yardstick import MODES, SHAPES

__all__ = ["FULL", "QUICK", "Part", "Plan", "Results", "measure_all"]

Part = Sequence[ReconcileCase] | StoreReport | HttpReport | TransferReport


@dataclass(frozen=True, slots=True)
class Plan:
    """How large everything is. `sizes` and `changes` are those of reconciliation."""

    sizes: tuple[int, ...]
    changes: tuple[int, ...]
    store_messages: int
    store_rounds: int
    http_clients: tuple[int, ...]
    http_seconds: float
    transfer_messages: int
    transfer_rounds: int


FULL: Final = Plan((10_000, 100_000, 1_000_000), (10, 100, 1000), 50_000, 3, (1, 16, 64, 256), 2.0, 100_000, 3)
QUICK: Final = Plan((10_000, 100_000), (10, 100), 10_000, 1, (1, 64), 0.5, 10_000, 1)

_BLOB_BYTES: Final = 300
_TRANSFER_BLOB_BYTES: Final = 1000
_STORE_BULK: Final = 1000
_STORE_CLIENTS: Final = 64
_HTTP_BULK: Final = 100


@dataclass(slots=True)
class Results:
    """What has been measured so far."""

    reconcile: Sequence[ReconcileCase] = ()
    store: StoreReport | None = None
    http: HttpReport | None = None
    transfer: TransferReport | None = None

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What is required or claimed of all of it."""
        reports = [report for report in (self.store, self.http, self.transfer) if report is not None]
        return (*reconcile_claims(self.reconcile), *(claim for report in reports for claim in report.claims))

    def document(self) -> dict[str, Any]:
        """For programs, and what `pictures` draws; parts that have not been measured are empty."""
        return {
            "reconcile": [asdict(case) for case in self.reconcile],
            "store": asdict(self.store) if self.store else None,
            "http": asdict(self.http) if self.http else None,
            "transfer": [asdict(self.transfer)] if self.transfer else [],
            "claims": [asdict(claim) for claim in self.claims],
        }


async def measure_all(
    folder: Path, *, plan: Plan, progress: Callable[[str], None], done: Callable[[Results, Part], None]
) -> Results:
    """Calls `done` after each part, with all results so far and those of the part. Raises what the parts raise."""
    results = Results()

    def finish(part: Part) -> None:
        progress("")
        done(results, part)

    results.reconcile = await _reconcile(plan, progress)
    finish(results.reconcile)
    results.store = await measure_store(
        _emptied(folder / "store"),
        messages=plan.store_messages,
        blob_bytes=_BLOB_BYTES,
        bulk=_STORE_BULK,
        clients=_STORE_CLIENTS,
        rounds=plan.store_rounds,
        progress=lambda text: progress(f"store: {text}"),
    )
    finish(results.store)
    results.http = await measure_http(
        _emptied(folder / "http"),
        clients=plan.http_clients,
        bulk=_HTTP_BULK,
        blob_bytes=_BLOB_BYTES,
        seconds_per_case=plan.http_seconds,
        progress=lambda text: progress(f"http: {text}"),
    )
    finish(results.http)
    results.transfer = await measure_transfer(
        _emptied(folder / "transfer"),
        messages=plan.transfer_messages,
        blob_bytes=_TRANSFER_BLOB_BYTES,
        peers=1,
        rounds=plan.transfer_rounds,
        progress=lambda text: progress(f"transfer: {text}"),
    )
    finish(results.transfer)
    return results


async def _reconcile(plan: Plan, progress: Callable[[str], None]) -> list[ReconcileCase]:
    differences = [(shape, changed) for shape in SHAPES if shape not in ("none", "fresh") for changed in plan.changes]
    cases: list[ReconcileCase] = []
    for messages in plan.sizes:
        for shape, changed in (("none", 0), *differences, ("fresh", messages)):
            cases += await measure_reconcile(
                messages=messages, changed=changed, shape=shape, modes=MODES, progress=progress
            )
    return cases


def _emptied(folder: Path) -> Path:
    """A folder for one part. What the parts before it have left goes: together they would be gigabytes."""
    for other in folder.parent.iterdir():
        shutil.rmtree(other)
    folder.mkdir()
    return folder
