"""One process opens a file and closes it, and those that wait at it hear it from the kernel."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gonogo.store.file_bell import FileBell, hang, ring

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux' own")

SOON = 10.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file's näme #1 %41 \udcff"
    path.touch()
    return path


@pytest.fixture
def bell(file: Path) -> Iterator[FileBell]:
    made = FileBell(str(file))
    yield made
    made.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_another_process_rings_it(bell: FileBell, file: Path) -> None:
    """Once for many rings that nobody heard yet, and again for the next one."""
    code = "import os, sys; from gonogo.store.file_bell import ring; ring(sys.argv[1])"
    assert not bell.wait(0.0)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, os.fsencode(file)], check=True)
        ring(str(file))
        assert bell.wait(SOON)
        assert not bell.wait(0.0)


def test_who_rings_is_not_woken_by_it(bell: FileBell, file: Path) -> None:
    """The others are, and whoever rings before or after it is heard; a closed one still rings."""
    other = FileBell(str(file))
    bell.ring()
    assert not bell.wait(0.0)
    ring(str(file))
    bell.ring()
    assert bell.wait(SOON)
    assert other.wait(SOON)
    ring(str(file))
    assert bell.wait(SOON)
    assert other.wait(SOON)
    bell.close()
    bell.ring()
    assert other.wait(SOON)
    other.close()


def test_an_interrupted_ring_leaves_it_hearing(
    bell: FileBell, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come in between."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bell.ring()
    ring(str(file))
    assert bell.wait(SOON)


def test_to_write_to_the_file_rings_nothing(bell: FileBell, file: Path) -> None:
    """SQLite does so all the time, and reads from where it writes."""
    with file.open("r+b") as log:
        log.write(b"more")
        log.seek(0)
        log.read()
    assert not bell.wait(0.0)


def test_it_hangs_at_the_file_behind_a_link(file: Path, tmp_path: Path) -> None:
    """Whichever of its names is rung at."""
    link = tmp_path / "link"
    link.symlink_to(file)
    bell = FileBell(str(link))
    for name in (link, file):
        ring(str(name))
        assert bell.wait(SOON)
    bell.close()


def test_it_falls_with_its_file(bell: FileBell, file: Path) -> None:
    """That is heard, and to ring or to wait there is no error; a new file has no bell yet."""
    assert bell.hangs
    file.unlink()
    assert bell.wait(SOON)
    assert not bell.hangs
    bell.ring()
    assert hang(str(file)) is None
    file.touch()
    ring(str(file))
    assert not bell.wait(0.0)
    bell.leave()


@pytest.mark.parametrize("call", ["inotify_init1", "inotify_add_watch"])
def test_a_kernel_that_gives_no_more_is_no_error(
    file: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """There is no bell then, and no file of this process stays open."""
    import ctypes

    real, before = ctypes.CDLL(None, use_errno=True), descriptors()

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return self.refuse if name == call else getattr(real, name)

        def refuse(self, *_: object) -> int:
            ctypes.set_errno(errno.ENOSPC)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Refusing())
    with pytest.raises(OSError, match="No space left"):
        FileBell(str(file))
    assert hang(str(file)) is None
    assert descriptors() == before


def test_a_python_without_ctypes_is_no_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been built so."""
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert hang(str(file)) is None


def test_on_another_system_nothing_is_opened(
    bell: FileBell, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could hear it there."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        ring(str(file))
        assert hang(str(file)) is None
    assert not bell.wait(0.0)


def test_leaving_ends_the_wait_of_another_thread(bell: FileBell) -> None:
    """At once, however long it was to be."""
    waiting = threading.Thread(target=bell.wait, args=(3600.0,))
    waiting.start()
    bell.leave()
    waiting.join(SOON)
    assert not waiting.is_alive()


def test_it_leaves_no_file_open(file: Path) -> None:
    """Closed, twice even, or only forgotten."""
    before = descriptors()
    bell = FileBell(str(file))
    bell.close()
    bell.close()
    bell = FileBell(str(file))
    assert descriptors() == before + 1
    del bell
    assert descriptors() == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_takes_nothing_away(bell: FileBell, file: Path) -> None:
    """Whatever it does with the bell that it inherited, its parent goes on to hear."""

    def in_the_child() -> None:
        bell.leave()
        bell.close()
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=in_the_child)
    child.start()
    child.join(SOON)
    assert not bell.wait(0.0)
    ring(str(file))
    assert bell.wait(SOON)
