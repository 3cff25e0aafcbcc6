"""The least that our bookkeeping takes: our row, written twice a job, by the driver, in batches.

No guard is asked and no outcome is judged; nothing is renewed, recovered, logged or counted.
"""

from __future__ import annotations

import time

import psycopg

from benchmarks.pg.queue import Begun

_BEGIN = """
WITH due AS (
  SELECT id FROM gonogo_calls WHERE state = 'pending' AND NOT waits AND queue IS NOT NULL
  ORDER BY queue, action, priority, run_at LIMIT %s FOR UPDATE SKIP LOCKED)
UPDATE gonogo_calls SET state = 'dispatched', epoch = epoch + 1, attempt = attempt + 1,
  owner = 'floor', lease_until = %s, dispatched_at = %s
FROM due WHERE gonogo_calls.id = due.id RETURNING gonogo_calls.id, args
"""
_SETTLE = """
UPDATE gonogo_calls SET state = 'succeeded', outcome = 'succeeded', result = 'null',
  settled_at = %s, lease_until = NULL WHERE id = ANY(%s) AND state = 'dispatched'
"""


def work(url: str, begun: Begun, hands: int) -> None:
    connection = psycopg.connect(url)
    connection.execute("LISTEN gonogo_due")
    connection.commit()
    begun()
    while True:
        now = time.time()
        found = connection.execute(_BEGIN, (hands, now + 30, now)).fetchall()
        connection.commit()
        for _ in found:
            begun()
        if found:
            connection.execute(_SETTLE, (time.time(), [call_id for call_id, _ in found]))
            connection.commit()
        else:
            for _ in connection.notifies(timeout=1.0, stop_after=1):
                pass
