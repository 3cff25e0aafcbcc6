"""Compiles anew what comes compiled with the package: ``make statements``.

For another shape of a statement, write its row with an empty text into the file and run this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from gonogo.store import indexes
from gonogo.store.compiling import for_sqlite
from gonogo.store.sqlite_ready import FILE, Entry, Ready, ready


def compiled(known: Ready) -> Ready:
    """The same tables, indexes and shapes of statements, as the code has them now."""
    compiler = for_sqlite()

    def entry(wanted: Entry) -> Entry:
        text, parameters = compiler(wanted.verb, wanted.what, wanted.shape, wanted.columns)
        placed = None if parameters is None else tuple(parameters)
        return msgspec.structs.replace(wanted, text=text, parameters=placed)

    tables = [*indexes.metadata.sorted_tables, indexes.version]
    found = sorted((i for t in tables for i in t.indexes), key=lambda index: str(index.name))
    return Ready(
        {table.name: _text(CreateTable(table)) for table in tables},
        tuple(_text(CreateIndex(index)) for index in found),
        tuple(map(entry, sorted(known.texts, key=lambda known: repr(known.asked)))),
    )


def _text(statement: Any) -> str:
    return str(statement.compile(dialect=sqlite.dialect())).strip()


if __name__ == "__main__":
    Path(FILE).write_bytes(msgspec.json.format(msgspec.json.encode(compiled(ready()))) + b"\n")
