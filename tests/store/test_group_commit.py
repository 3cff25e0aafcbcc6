"""Group commit: who waits shares the next commit, and nobody is ever left waiting."""

from __future__ import annotations

import itertools
import linecache
import sys
import threading

import pytest

from gonogo.errors import StoreUnavailable
from gonogo.store.group import GroupCommit


class Commits:
    """Commits that are held open until told, and remember who was in them."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error: BaseException | None = None

    def __call__(self, batch) -> None:
        self.sizes.append(len(batch))
        self.entered.release()
        assert self.go.acquire(timeout=30)
        error, self.error = self.error, None
        if error is not None:
            raise error
        for job in batch:
            job.result = job.work(None)


@pytest.fixture
def commits():
    return Commits()


@pytest.fixture
def group(commits):
    return GroupCommit(commits)


def start(group, results, number, durable=True):
    def work():
        try:
            results[number] = group.write(lambda _: number, durable)
        except BaseException as error:
            results[number] = error

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def waiting(group, count):
    """Return when ``count`` jobs wait; they come from threads that do nothing else."""
    while len(group._waiting) < count:
        threading.Event().wait(0.001)


def crowd(group, commits, count):
    """One leader inside its commit, and ``count`` others that came meanwhile."""
    results: dict[int, object] = {}
    threads = [start(group, results, 0)]
    assert commits.entered.acquire(timeout=30)
    threads += [start(group, results, number) for number in range(1, count + 1)]
    waiting(group, count)
    return results, threads


def test_those_who_wait_share_one_commit(group, commits):
    """All that arrive during a commit are in the next one, and each gets its own result."""
    results, threads = crowd(group, commits, 7)
    commits.go.release(2)
    for thread in threads:
        thread.join(30)
    assert commits.sizes == [1, 7]
    assert results == {number: number for number in range(8)}


def test_a_commit_is_bounded(group, commits, monkeypatch):
    """More than a commit may hold are spread over several."""
    monkeypatch.setattr("gonogo.store.group._LARGEST", 64)
    results, threads = crowd(group, commits, 100)
    commits.go.release(9)
    for thread in threads:
        thread.join(30)
    assert commits.sizes == [1, 64, 36]
    assert len(results) == 101


def test_a_failed_commit_reaches_everybody_in_it(group, commits):
    """When the commit fails, each caller raises an error of its own, and the next one works."""
    results, threads = crowd(group, commits, 3)
    commits.go.release()
    assert commits.entered.acquire(timeout=30)
    commits.error = StoreUnavailable("disk full")
    commits.go.release()
    for thread in threads:
        thread.join(30)
    failed = [results[number] for number in (1, 2, 3)]
    assert results[0] == 0
    assert all(isinstance(error, StoreUnavailable) for error in failed)
    assert len({id(error) for error in failed}) == 3
    commits.go.release()
    assert group.write(lambda _: "next", True) == "next"


def test_an_interrupted_leader_strands_nobody(group, commits):
    """KeyboardInterrupt in the leader is its own; the others are committed by one of them."""
    results, threads = crowd(group, commits, 3)
    commits.go.release()
    assert commits.entered.acquire(timeout=30)
    commits.error = KeyboardInterrupt()
    commits.go.release(2)
    for thread in threads:
        thread.join(30)
    interrupted = [n for n, result in results.items() if isinstance(result, KeyboardInterrupt)]
    assert len(interrupted) == 1
    assert sorted(n for n, r in results.items() if r == n) == sorted({0, 1, 2, 3} - {*interrupted})
    assert commits.sizes == [1, 3, 2]


def test_an_interrupted_follower_is_not_run(group, commits, monkeypatch):
    """A caller that is interrupted while it waits takes its work back, and the line moves on."""
    results, threads = crowd(group, commits, 1)

    class Interrupted(threading.local):
        on = False

    here = Interrupted()
    from gonogo.store.group import Job

    wait = Job.wait

    def interrupt(job):
        if here.on:
            here.on = False
            raise KeyboardInterrupt
        wait(job)

    monkeypatch.setattr(Job, "wait", interrupt)
    here.on = True
    with pytest.raises(KeyboardInterrupt):
        group.write(lambda _: results.setdefault("ran", True), True)
    commits.go.release(3)
    for thread in threads:
        thread.join(30)
    assert results == {0: 0, 1: 1}
    assert group._leader is None


def test_what_was_done_before_an_interrupt_is_not_run_again(group, commits):
    """Of a commit that was interrupted halfway, only what is not certain runs again."""
    results, threads = crowd(group, commits, 3)
    runs = []

    def halfway(batch):
        runs.append(len(batch))
        for job in batch[:2]:
            job.result, job.done = job.work(None), True
        if len(runs) == 1:
            raise KeyboardInterrupt
        batch[-1].result = batch[-1].work(None)

    group._commit = halfway
    commits.go.release()
    for thread in threads:
        thread.join(30)
    assert runs == [3, 1]
    interrupted = [n for n, result in results.items() if isinstance(result, KeyboardInterrupt)]
    assert interrupted == [1]
    assert {n: r for n, r in results.items() if n != 1} == {0: 0, 2: 2, 3: 3}


def test_a_leader_lets_those_come_that_shared_the_last_commit(group, commits, monkeypatch):
    """Those whom a shared commit woke are in the next one, though its leader was there first."""
    results, threads = crowd(group, commits, 3)
    commits.go.release(2)
    for thread in threads:
        thread.join(30)
    late = []

    def come():
        late.append(start(group, results, len(late) + 10))
        waiting(group, len(late) + 1)

    monkeypatch.setattr("gonogo.store.group.give_way", come)
    commits.go.release()
    assert group.write(lambda _: "first", True) == "first"
    for thread in late:
        thread.join(30)
    assert commits.sizes == [1, 3, 3]


def test_a_leader_does_not_wait_for_those_that_do_not_come(group, commits, monkeypatch):
    """When giving way once brings nobody, the leader begins without the others."""
    _, threads = crowd(group, commits, 3)
    commits.go.release(2)
    for thread in threads:
        thread.join(30)
    ways = []
    monkeypatch.setattr("gonogo.store.group.give_way", lambda: ways.append(1))
    commits.go.release()
    assert group.write(lambda _: "alone", True) == "alone"
    assert (len(ways), commits.sizes) == (1, [1, 3, 1])


def test_a_leader_interrupted_while_it_lets_others_come_strands_nobody(group, commits, monkeypatch):
    """Who came meanwhile is led by one of themselves."""
    results, threads = crowd(group, commits, 3)
    commits.go.release(2)
    for thread in threads:
        thread.join(30)
    late = []

    def interrupted():
        monkeypatch.setattr("gonogo.store.group.give_way", lambda: None)
        late.append(start(group, results, 10))
        waiting(group, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr("gonogo.store.group.give_way", interrupted)
    commits.go.release()
    with pytest.raises(KeyboardInterrupt):
        group.write(lambda _: results.setdefault("ran", True), True)
    late[0].join(30)
    assert (results[10], "ran" in results, group._leader is not None) == (10, False, False)


def test_a_caller_that_is_alone_waits_for_nobody(group, commits, monkeypatch):
    """Without anybody else there is nothing to let come."""
    monkeypatch.setattr("gonogo.store.group.give_way", lambda: pytest.fail("it waited"))
    commits.go.release(2)
    assert [group.write(lambda _, n=n: n, True) for n in range(2)] == [0, 1]


def test_an_interrupt_while_the_lead_is_handed_over_strands_nobody(group, commits, monkeypatch):
    """Whoever is interrupted as it tells the others does so first: nobody else would ever lead."""
    results, threads = crowd(group, commits, 2)
    from gonogo.store.group import Job

    wake, interrupts = Job.wake, [KeyboardInterrupt()]

    def interrupted(job):
        if interrupts:
            raise interrupts.pop()
        wake(job)

    monkeypatch.setattr(Job, "wake", interrupted)
    commits.go.release(3)
    for thread in threads:
        thread.join(5)
    assert sorted(n for n, result in results.items() if result == n) == [1, 2]
    assert isinstance(results[0], KeyboardInterrupt)
    start(group, results, 3).join(5)
    assert results[3] == 3


class Joined:
    """A commit during which somebody else comes, the first time."""

    def __init__(self) -> None:
        self.group = GroupCommit(self)
        self.ran: list[str] = []
        self.late: threading.Thread | None = None

    def __call__(self, batch) -> None:
        for job in batch:
            job.result = job.work(None)
            self.ran.append(job.result)
        if self.late is None:
            self.late = threading.Thread(target=self.group.write, args=(lambda _: "late", True))
            self.late.start()
            waiting(self.group, 1)


def test_an_interrupt_anywhere_of_one_who_was_alone_strands_nobody():
    """At whatever line it comes, who came meanwhile is led, and what was committed is so once."""
    interrupted = True
    for line in itertools.count():
        if not interrupted:
            return
        joined = Joined()
        sys.settrace(_interrupting_at(line))
        try:
            joined.group.write(lambda _: "first", True)
            interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if joined.late is not None:
            joined.late.join(5)
        assert joined.ran == (["first", "late"] if joined.late else []), line
        group = joined.group
        assert (group._leader, group._waiting, group._batch) == (None, [], []), line
        assert group.write(lambda _: "next", True) == "next"
        joined.late.join(5)


def _interrupting_at(line):
    """Raises at the so-manieth line of the module, but where Python itself looks at no signal."""
    lines = itertools.count()

    def trace(frame, event, _):
        path = frame.f_code.co_filename
        if not path.endswith("store/group.py"):
            return None
        words = linecache.getline(path, frame.f_lineno).lstrip()
        if event == "line" and not words.startswith(("with ", "try:")) and next(lines) == line:
            raise KeyboardInterrupt
        return trace

    return trace


@pytest.fixture
def apart(commits):
    return GroupCommit(commits, apart=True)


def mixed(group, commits):
    """One leader inside a durable commit, and durable (odd) and other (even) works that came."""
    results: dict[int, object] = {}
    threads = [start(group, results, 0)]
    assert commits.entered.acquire(timeout=30)
    for number in range(1, 6):
        threads.append(start(group, results, number, durable=number % 2 == 1))
        waiting(group, number)
    return results, threads


def test_what_need_not_be_durable_does_not_wait_for_the_disk(apart, commits):
    """It is committed by itself, before the durable work that came with it."""
    results, threads = mixed(apart, commits)
    seen = []

    def commit(batch):
        seen.append([job.work(None) for job in batch])
        commits(batch)

    apart._commit = commit
    commits.go.release(3)
    for thread in threads:
        thread.join(30)
    assert seen == [[2, 4], [1, 3, 5]]
    assert results == {number: number for number in range(6)}


def test_durable_work_waits_for_one_other_commit_at_most(apart, commits):
    """After a commit that was not durable everything that waits is in the next one."""
    results, threads = mixed(apart, commits)
    commits.go.release()
    assert commits.entered.acquire(timeout=30)
    threads += [start(apart, results, number, durable=False) for number in (6, 8)]
    waiting(apart, 5)
    commits.go.release(2)
    for thread in threads:
        thread.join(30)
    assert commits.sizes == [1, 2, 5]


def test_the_works_of_one_caller_are_not_committed_apart(apart, commits):
    """What one caller hands over together is in one commit, which is durable if a part of it is."""
    _, threads = crowd(apart, commits, 1)
    pieces = [(lambda _: "light", False), (lambda _: "durable", True)]
    fates = []
    threads.append(threading.Thread(target=lambda: fates.extend(apart.write_all(pieces))))
    threads[-1].start()
    waiting(apart, 3)
    commits.go.release(2)
    for thread in threads:
        thread.join(30)
    assert commits.sizes == [1, 3]
    assert [fate.get() for fate in fates] == ["light", "durable"]


def test_an_error_of_what_is_not_durable_is_not_the_leaders(apart, commits):
    """When the commit that goes first fails, the durable work is committed all the same."""
    results, threads = mixed(apart, commits)
    commits.go.release()
    assert commits.entered.acquire(timeout=30)
    commits.error = StoreUnavailable("disk full")
    commits.go.release(2)
    for thread in threads:
        thread.join(30)
    assert [isinstance(results[number], StoreUnavailable) for number in range(6)] == [
        *(False, False, True, False, True, False)
    ]
    assert commits.sizes == [1, 2, 3]


def test_a_durable_leader_interrupted_in_the_commit_before_its_own_strands_nobody(apart, commits):
    """What it led goes back in line, and what it came with is not run; all others are committed."""
    results, threads = mixed(apart, commits)
    commits.go.release()
    assert commits.entered.acquire(timeout=30)
    commits.error = KeyboardInterrupt()
    commits.go.release(4)
    for thread in threads:
        thread.join(30)
    assert isinstance(results.pop(1), KeyboardInterrupt)
    assert results == {number: number for number in (0, 2, 3, 4, 5)}
    assert apart._leader is None
