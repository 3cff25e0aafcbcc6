"""Several callers whose writes share one commit."""

from __future__ import annotations

import threading
from functools import partial


def together(store, works):
    """The results or errors of works that share a commit, led by the caller of the first."""
    return all_together(store, [partial(store.write, work) for work in works])


def all_together(store, writers):
    """The same of functions that write once each."""
    inside, go, results = threading.Event(), threading.Event(), [None] * len(writers)

    def run(number):
        try:
            results[number] = writers[number]()
        except BaseException as error:
            results[number] = error

    def hold(tx):
        inside.set()
        go.wait(30)

    threads = [threading.Thread(target=store.write, args=(hold,))]
    threads[0].start()
    assert inside.wait(30)
    for number in range(len(writers)):
        threads.append(threading.Thread(target=run, args=(number,)))
        threads[-1].start()
        while len(store._group._waiting) <= number:
            threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join(30)
    return results
