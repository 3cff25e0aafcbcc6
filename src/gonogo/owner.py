"""Who performs: the name by which a process is known on a ledger."""

from __future__ import annotations

import os
import platform
import weakref

from gonogo.ids import new_id


class Owner:
    """This process: its host, its id, and a word that no other process has.

    Attributes:
        name: the three of them. A child that is forked has a name of its own.
    """

    def __init__(self) -> None:
        self.name = _name()
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _rename(me()))

    def __str__(self) -> str:
        return self.name


def _name() -> str:
    return f"{platform.node() or 'localhost'}:{os.getpid()}:{new_id(0.0)[-6:]}"


def _rename(owner: Owner | None) -> None:
    if owner is not None:
        owner.name = _name()
