"""Building statements in SQLAlchemy Core, and compiling them for one dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import Table, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

from gonogo.store import schema, statements
from gonogo.store.texts import Compiled


class CoreCompiler:
    """Makes texts of statements; see `gonogo.store.texts.Statements`.

    Args:
        upsert: the dialect's own insert, which says what to do when the row is there.
    """

    def __init__(self, dialect: Dialect, upsert: Callable[[Table], Any]) -> None:
        self._dialect = dialect
        self._upsert = upsert

    def __call__(
        self, verb: str, what: Any, shape: tuple[Any, ...], columns: tuple[str, ...] | None
    ) -> Compiled:
        statement = self._built(verb, what, shape, columns or ())
        keys = None if columns is None else list(columns)
        compiled = cast(SQLCompiler, statement.compile(dialect=self._dialect, column_keys=keys))
        given = [name for name, bind in compiled.binds.items() if not bind.required]
        if given:
            raise TypeError(f"a value is bound into a shared statement: {given} in {compiled}")
        return str(compiled), compiled.positiontup

    def _built(
        self, verb: str, what: Any, shape: tuple[Any, ...], columns: tuple[str, ...]
    ) -> ClauseElement:
        if verb in {"text", "update"}:
            build = getattr(statements, what) if isinstance(what, str) else what
            built: ClauseElement = build(*shape)
            return built
        table: Table = getattr(schema, what) if isinstance(what, str) else what
        if verb == "insert":
            return insert(table)
        statement = self._upsert(table)
        if verb == "missing":
            missing: ClauseElement = statement.on_conflict_do_nothing()
            return missing
        names = [column.name for column in table.primary_key]
        changed = {name: statement.excluded[name] for name in columns if name not in names}
        upsert: ClauseElement = statement.on_conflict_do_update(index_elements=names, set_=changed)
        return upsert


def for_sqlite() -> CoreCompiler:
    """For its driver in the standard library, parameters by place."""
    return CoreCompiler(sqlite.dialect(paramstyle="qmark"), sqlite.insert)
