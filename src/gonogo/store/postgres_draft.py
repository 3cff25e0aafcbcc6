"""A transaction as a draft: what can wait is sent together, and what was guessed is looked up.

Most work writes blindly: it replaces calls that its process has claimed, and notes attempts. Such
writes wait in the draft until somebody has to read, or until the end; then they go to the server
in one message, whatever their number and whoever wrote them. Until then the work is told what is
likely: that each fence holds, that nobody waits for the calls that end, that the switches are as
they were last seen. All of this is looked up, behind the locks, by statements that fail where a
guess was wrong; then the work runs again without any.

Of several pieces of work in one transaction each can be taken back alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import psycopg
from sqlalchemy import Table

from gonogo.errors import StoreUnavailable
from gonogo.records import Call
from gonogo.store import postgres_statements
from gonogo.store.postgres_answers import Answers
from gonogo.store.postgres_errors import Contention
from gonogo.store.postgres_fate import Witness
from gonogo.store.postgres_news import SAY, told
from gonogo.store.postgres_prepared import Prepared
from gonogo.store.postgres_writes import Row, Said, Writes
from gonogo.store.rows import Rows
from gonogo.store.run import Cursor, Run
from gonogo.store.texts import Statements, Text

_SAVEPOINT = "SAVEPOINT piece"
_KEEP = ("RELEASE piece",)
_TAKE_BACK = ("ROLLBACK TO piece", "RELEASE piece")
_MOST = 1000
"""Rows in one message; more would only make it large."""
_NO_CONTROLS = "[]"
"""What `postgres_statements.controls` finds where there are none."""
_WRONG = "22012"
"""Division by zero: nothing else of ours divides; see `postgres_statements.require`."""


class _Switches(Enum):
    """What is known of the switches in a transaction: nothing, what was last seen, or all."""

    UNASKED = 0
    GUESSED = 1
    CERTAIN = 2


class Misjudged(Contention):
    """What was guessed is not so: roll back, and run the work again without guessing."""

    def __init__(self) -> None:
        super().__init__(StoreUnavailable("other transactions kept changing the same calls"))


class Draft(Run):
    """Runs statements on one connection, and drafts those that can wait.

    Attributes:
        guesses: whether anything is drafted and guessed in the transaction under way.
        open: whether it has begun on the server.
        xid: its number there, if it writes.
        failed: a statement failed, so that the server takes no other until that is taken back.

    Args:
        prepared: says statements on the connection.
        translate: the error of the store for an error of the driver.
        locks: whether it is for transactions that write.
    """

    __slots__ = (
        "_apart",
        "_begin",
        "_controls",
        "_earlier",
        "_first",
        "_own",
        "_prepared",
        "_saved",
        "_switches",
        "failed",
        "guesses",
        "open",
        "xid",
    )

    def __init__(
        self,
        texts: Statements,
        prepared: Prepared,
        translate: Callable[[Exception], Exception],
        *,
        locks: bool,
    ) -> None:
        super().__init__(texts, prepared.execute, psycopg.Error, translate, locks=locks)
        self._prepared = prepared
        self._controls: str | None = None
        self.begin("", ("", {}), guesses=False)

    def begin(self, word: str, terms: tuple[str, Row], *, guesses: bool) -> None:
        """Another transaction, which begins with ``word`` when something is sent.

        Args:
            terms: the statement that follows; of one that writes, its answer ends with its number.
        """
        self._begin = word, terms
        self._earlier, self._own = Writes(), Writes()
        self._first: list[str] = []
        self._switches = _Switches.UNASKED
        self._apart = self._saved = False
        self.guesses = guesses
        self.news = set()
        self.open = self.failed = False
        self.xid = ""

    def __call__(self, text: Text, parameters: Mapping[str, Any]) -> Cursor:
        if self._are_many:
            self.send()
        if not self.open or self._waits:
            return self._say([(text, parameters)])
        try:
            return super().__call__(text, parameters)
        except Exception:
            self.failed = True
            raise

    # the pieces of work it consists of

    def next_piece(self, *, apart: bool) -> None:
        """Another piece begins; what the ones before it wrote stays, whatever becomes of it.

        Args:
            apart: it has company, so it must be possible to take it back alone.
        """
        if self._own.are_many:
            self.send()
        if self._own.rows:
            if self._earlier.rows:
                self._earlier.add(self._own)
            else:
                self._earlier = self._own
            self._own = Writes()
        self._end_piece(_KEEP)
        self._apart = apart

    def take_back(self) -> None:
        """Let the piece under way have written nothing; what it was told is still looked up."""
        self._earlier.add_guesses(self._own)
        self._own = Writes()
        self._end_piece(_TAKE_BACK)
        self.failed = False
        if self._switches is _Switches.CERTAIN:
            self._switches = _Switches.UNASKED

    def _end_piece(self, how: Sequence[str]) -> None:
        if self._saved:
            self._first += how
        self._apart = self._saved = False

    # what can wait

    @property
    def witness(self) -> Witness | None:
        """What will be there if and only if this is committed."""
        return self._own.witness or self._earlier.witness

    @property
    def is_guess(self) -> bool:
        """Whether something that the work was told has still to be looked up."""
        return self._rows > 0 or self._switches is _Switches.GUESSED

    def replaces(self, call_id: str) -> bool:
        """Whether the draft changes this call."""
        return call_id in self._own.replaced or call_id in self._earlier.replaced

    def take(self, due: Call, claimed: Call) -> None:
        """Claim a call that is locked: with the next change to it, if that is in this piece."""
        self._own.take(due, claimed)
        self._note()

    def stored(self, call: Call) -> Call | None:
        """The call as its row is: as it was before this piece claimed it, else as it is known.

        ``None`` where the draft changes it in another way, which has to be written first.
        """
        due, claimed = self._own.taken.get(call.id, (call, call))
        changes = self.replaces(call.id) or call.id in self._earlier.taken
        return None if changes or claimed.fence != call.fence else due

    def replace(self, fence: tuple[str, int, str], changed: Row) -> None:
        """Change the call of this id, epoch and state; it is taken to be there."""
        self._own.replace(fence, changed)
        self._note()

    def insert(self, table: Table, rows: Rows[Any], records: Sequence[Any]) -> None:
        """Insert records, at least one."""
        self._own.insert(table, rows, records)
        self._note()

    def guess_unawaited(self, call_id: str) -> None:
        """Nobody is taken to wait for this call."""
        self._own.guess_unawaited(call_id)

    def controls(self) -> str:
        """The switches as one text: once they were looked up as they are, else as last seen."""
        if self._controls is not None:
            if self._switches is _Switches.UNASKED and self.guesses and not self.open:
                self._switches = _Switches.GUESSED
            if self._switches is not _Switches.UNASKED:
                return self._controls
        known: str = self(self.texts.text(postgres_statements.controls), {}).fetchone()[0]
        self._controls, self._switches = known, _Switches.CERTAIN
        return known

    def forget_controls(self) -> None:
        """This transaction changes them."""
        self._controls, self._switches = None, _Switches.UNASKED

    @property
    def _rows(self) -> int:
        return self._earlier.rows + self._own.rows

    @property
    def _are_many(self) -> bool:
        """Whether rows are to be copied now: none that would be taken back with another piece."""
        return self._own.are_many or (self._earlier.are_many and not self._apart)

    @property
    def _waits(self) -> bool:
        """Whether anything is to be said before the next statement."""
        return bool(self._first or self._rows or (self._apart and not self._saved))

    def _note(self) -> None:
        if self._rows >= _MOST:
            self.send()

    # sending it

    def send(self) -> None:
        """Begin, if it has not begun, and write what is drafted.

        Raises:
            Misjudged: a guess was wrong.
        """
        copied = self._own.take_many() + ([] if self._apart else self._earlier.take_many())
        if copied or self._waits or not self.open:
            self._say([])
        try:
            for many in copied:
                self._prepared.copy(many.table.name, many.columns, many.rows)
        except Exception as error:
            self.failed = True
            if not isinstance(error, psycopg.Error):
                raise
            raise self._translate(error) from error

    def commit(self) -> str:
        """Write what is drafted and commit, in one message; what the server says it did.

        Raises:
            Misjudged: a guess was wrong.
        """
        if self._are_many:
            self.send()
        news: list[Said] = [(Text(SAY), {"news": word}) for word in told(self.news)]
        return self._say(news, "COMMIT").did

    def _say(self, said: Sequence[Said], last: str = "") -> Answers:
        """All in one message, with ``said`` at the end of it."""
        begins = not self.open
        try:
            words = [*self._words(), *map(self._spelled, said), *filter(None, [last])]
            self._note_said()
            answers = self._prepared.say("; ".join(words))
        except Exception as error:
            self.failed = True
            if not isinstance(error, psycopg.Error):
                raise
            if error.sqlstate == _WRONG:
                self._controls = None
                raise Misjudged from error
            raise self._translate(error) from error
        if begins and self.locks:
            self.xid = answers.rows(1)[0][-1]
        return answers

    def _words(self) -> Iterator[str]:
        """All that is to be said before the next statement."""
        if not self.open:
            self._prepared.prepare()
            word, terms = self._begin
            yield word
            yield self._spelled(terms)
        yield from self._first
        if self._switches is _Switches.GUESSED:
            yield self._spelled(self._guessed_controls())
        yield from map(self._spelled, self._earlier.statements(self.texts))
        if self._apart and not self._saved:
            yield _SAVEPOINT
        yield from map(self._spelled, self._own.statements(self.texts))

    def _guessed_controls(self) -> Said:
        if self._controls == _NO_CONTROLS:
            return self.texts.text(postgres_statements.require_no_controls), {}
        text = self.texts.text(postgres_statements.require_controls)
        return text, {"known": self._controls}

    def _note_said(self) -> None:
        """What was to be said is on its way."""
        self.open = True
        self._first = []
        self._saved = self._apart
        if self._switches is _Switches.GUESSED:
            self._switches = _Switches.CERTAIN
        if self._rows:
            self._earlier, self._own = Writes(), Writes()

    def _spelled(self, said: tuple[str, Row]) -> str:
        return self._prepared.spell(*said)
