"""Several callers whose writes share one commit."""

from __future__ import annotations

import threading


def together(store, works):
    """The results or errors of works that share a commit, led by the caller of the first."""
    inside, go, results = threading.Event(), threading.Event(), [None] * len(works)

    def run(number):
        try:
            results[number] = store.write(works[number])
        except BaseException as error:
            results[number] = error

    def hold(tx):
        inside.set()
        go.wait(30)

    threads = [threading.Thread(target=store.write, args=(hold,))]
    threads[0].start()
    assert inside.wait(30)
    for number in range(len(works)):
        threads.append(threading.Thread(target=run, args=(number,)))
        threads[-1].start()
        while len(store._group._waiting) <= number:
            threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join(30)
    return results
