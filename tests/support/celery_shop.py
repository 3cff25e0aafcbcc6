"""A shop whose payments Celery delivers: ``celery -A tests.support.celery_shop worker``.

Its ledger, broker and books are named by ``SHOP_LEDGER``, ``SHOP_BROKER`` and ``SHOP_BOOKS``.
"""

from __future__ import annotations

import os
import threading

from celery import Celery

from gonogo.contrib.celery import CeleryDelivery
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.settings import Settings
from tests.support.shop import DECLARED, enter, look

settings = Settings().replaced(
    {"db_url": os.environ["SHOP_LEDGER"], "dry_run": False, "lease": 1.0}, "of a test"
)
sandbox = SandboxOrchestrator(settings=settings)
app = Celery("shop", broker=os.environ["SHOP_BROKER"])
app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@sandbox.action("pay", key="pay:{invoice}", **DECLARED)
def pay(invoice: str) -> str:
    """It takes a while before and after it happens."""
    threading.Event().wait(0.05)
    paid = enter(invoice)
    threading.Event().wait(0.05)
    return paid


pay.verify(look)
delivery = CeleryDelivery(sandbox, app, resend_after=2.0, ahead=8)
