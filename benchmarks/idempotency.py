"""One key, one effect, in memory: the first call and the replay of its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aws_lambda_powertools.utilities.idempotency import (
    BasePersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

from benchmarks.measure import Effort, Scene, Stage, Target, repeated
from gonogo import IdempotencyManager

Order = dict[str, object]
Pay = Callable[[Order], object]


@contextmanager
def memory(effort: Effort) -> Iterator[Scene]:
    """An order of two fields; the work behind the key does nothing."""
    ours, theirs, known = our_manager(), _powertools(), order(-1)
    for pay in (ours, theirs):
        pay(known)
    yield Scene(
        "Idempotency: the first call and a replay, in memory",
        "an order of two fields, fingerprinted by both; gonogo: process_idempotent; Powertools: "
        "idempotent_function over a locked dict, with a context so that it need not warn",
        {
            "gonogo first": repeated(lambda i: ours(order(i)), 1000),
            "gonogo replay": repeated(lambda _: ours(known), 2000),
            "powertools first": repeated(lambda i: theirs(order(i)), 300),
            "powertools replay": repeated(lambda _: theirs(known), 300),
        },
        [
            Target("gonogo first", "powertools first", 1 / 10),
            Target("gonogo replay", "powertools replay", 1 / 30),
        ],
    )


def order(number: int) -> Order:
    return {"invoice": f"INV-{number}", "cents": 12_000}


def _paid(order: Order) -> Order:
    return {"paid": order["cents"]}


def our_manager() -> Pay:
    manager = IdempotencyManager()
    return lambda order: manager.process_idempotent(f"payment:{order['invoice']}", _paid, order)


def _powertools() -> Pay:
    config = IdempotencyConfig(lambda_context=_Context())
    pay = idempotent_function(
        _paid, data_keyword_argument="order", persistence_store=_Locked(), config=config
    )
    return lambda order: pay(order=order)


class _Context:
    """What Powertools asks how long a call may still run."""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


class _Locked(BasePersistenceLayer):
    """The least a layer of Powertools can do: a dict and a lock."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[str, DataRecord] = {}
        self._lock = threading.Lock()

    def _get_record(self, idempotency_key: str) -> DataRecord:
        try:
            return self._records[idempotency_key]
        except KeyError:
            raise IdempotencyItemNotFoundError from None

    def _put_record(self, data_record: DataRecord) -> None:
        key = data_record.idempotency_key
        with self._lock:
            known = self._records.get(key)
            if known is None or (known.expiry_timestamp or 0) < time.time():
                self._records[key] = data_record
                return
        raise IdempotencyItemAlreadyExistsError(old_data_record=known)

    def _update_record(self, data_record: DataRecord) -> None:
        with self._lock:
            self._records[data_record.idempotency_key] = data_record

    def _delete_record(self, data_record: DataRecord) -> None:
        with self._lock:
            self._records.pop(data_record.idempotency_key, None)


SCENES: dict[str, Stage] = {"idempotency.memory": memory}
