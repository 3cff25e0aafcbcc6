"""Database URLs: which database, which driver, which file; nothing is opened.

SQLAlchemy reads them, whose import takes longer than opening a ledger. The plain ones of files are
read without it.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from gonogo.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL

_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_SECRET = ("password", "sslpassword")
_is_plain = re.compile(r"[A-Za-z0-9_./ ~+-]+").fullmatch
_is_settled = re.compile(r"/?(?:[\w+-][\w.+ -]*/)*[\w+-][\w.+ -]*", re.ASCII).fullmatch
_memories = itertools.count(1)


class FileUrl(Struct, frozen=True):
    """The URL of a SQLite file without options, like a SQLAlchemy URL in what is asked of it.

    Attributes:
        database: the file's absolute path.
    """

    database: str
    query: Mapping[str, str] = {}

    def get_backend_name(self) -> str:
        """Always sqlite."""
        return "sqlite"

    def __str__(self) -> str:
        return f"sqlite:///{self.database}"


def parse(url: str | URL | FileUrl) -> URL | FileUrl:
    """The URL with its driver named, a file's path absolute and a memory database by name.

    A memory database gets a name, so that several connections of this process see the same one,
    each with transactions of its own.

    Raises:
        ConfigurationError: it is no URL, or names a database that gonogo does not know, or a file
            that cannot be.
    """
    if isinstance(url, FileUrl):
        return url
    if isinstance(url, str) and (path := _plain_path(url)) is not None:
        return FileUrl(path)
    parsed = read(url)
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigurationError(
            f"{parsed.drivername!r} databases are not known; "
            "use a URL that begins with sqlite:// or postgresql://"
        )
    parsed = parsed.set(drivername=driver)
    return _sqlite(parsed) if driver == "sqlite" else parsed


def full(url: str | URL | FileUrl) -> URL:
    """The same as `parse`, with all that SQLAlchemy can do with it."""
    from sqlalchemy import URL  # noqa: PLC0415 - heavy; plain files need none

    parsed = parse(url)
    return URL.create("sqlite", database=parsed.database) if isinstance(parsed, FileUrl) else parsed


def read(url: str | URL) -> URL:
    """The parts of a URL; the error for one that has none does not repeat it."""
    from sqlalchemy import make_url  # noqa: PLC0415 - heavy; plain files need none
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - same

    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        found = None
    if found is None:  # apart from the error, which repeats a part of it
        raise ConfigurationError(
            "the database URL cannot be read; write sqlite:///path/to/file.db "
            "or postgresql://user:password@host/database"
        )
    if "@" in (found.host or ""):  # it would be shown, and is the end of a password
        raise ConfigurationError(
            "the database URL has more than one @: write one in a user or password as %40"
        )
    return found


def shown(url: URL | FileUrl) -> str:
    """A URL for people and logs, without its passwords."""
    if isinstance(url, FileUrl):
        return str(url)
    url = url.difference_update_query(_SECRET)
    return url.render_as_string(hide_password=True)


def in_memory(url: URL | FileUrl) -> bool:
    """Whether a parsed URL names a database that ends with the process."""
    return url.get_backend_name() == "sqlite" and url.query.get("vfs") == "memdb"


def _plain_path(url: str) -> str | None:
    """The path in a URL that has nothing else, and nothing that URLs spell in another way."""
    kind, _, given = url.partition(":///")
    if _DRIVERS.get(kind) != "sqlite" or not _is_plain(given):
        return None
    path = _absolute(given)
    return path if _is_plain(path) else None


def _sqlite(url: URL) -> URL:
    if url.host or url.port or url.username or url.password:
        raise ConfigurationError(
            "the URL of a SQLite file has three slashes, and a fourth where its path is absolute: "
            "sqlite:///path/to/file.db; between the second and the third stands nothing"
        )
    database = url.database or ":memory:"
    if database in {":memory:", "file::memory:"}:
        name = f"file:/gonogo-{os.getpid()}-{next(_memories)}"
        return url.set(database=name, query={"vfs": "memdb", "uri": "true"})
    if database.startswith("file:"):
        return url
    return url.set(database=_absolute(database))


def _absolute(path: str) -> str:
    if _is_settled(path):  # no home, nothing that stands for another folder, nothing twice
        return os.path.abspath(path)  # noqa: PTH100 - pathlib is slow to import
    if "\0" in path:
        raise ConfigurationError("the path in the database URL contains NUL, which no path can")
    from pathlib import Path  # noqa: PLC0415 - slow; few paths need it

    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise ConfigurationError(
            f"the database URL begins at a home that cannot be found, in {path!r}: write the path "
            "in full, or ./~... for a file of that name"
        ) from error
