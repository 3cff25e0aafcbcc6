"""What the connected role may do on a ledger in PostgreSQL, what it needs, and what mends it."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection

from gonogo.errors import StoreUnavailable
from gonogo.store.postgres_errors import NOTHING
from gonogo.store.revisions import PREFIX, VERSION_TABLE

_READ = ("SELECT",)
_ADD = ("SELECT", "INSERT")
_CHANGE = ("SELECT", "INSERT", "UPDATE")
_FREE = ("SELECT", "INSERT", "DELETE")
_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
NEEDS = {
    VERSION_TABLE: _READ,
    "gonogo_calls": _ALL,
    "gonogo_slots": _FREE,
    "gonogo_attempts": _FREE,
    "gonogo_decisions": _ADD,
    "gonogo_limits": _ALL,
    "gonogo_alerts": _CHANGE,
    "gonogo_plans": _CHANGE,
    "gonogo_controls": _ALL,
    "gonogo_beats": _ALL,
    "gonogo_schedules": _ALL,
    "gonogo_marks": _ADD,
    "gonogo_attempts_seq_seq": ("USAGE",),
    "gonogo_decisions_seq_seq": ("USAGE",),
}
"""The rights that working on a ledger takes, and no more: decisions cannot be taken back."""

MAKE_IT = (
    "Run `gonogo db upgrade` with the URL of the role that is to own it, then `gonogo db status` "
    "with this one, which says what to grant"
)

_ROLE = "SELECT current_user::text, quote_ident(current_user), current_setting('search_path')"
_SCHEMAS = f"""
SELECT n.nspname::text, n.oid::bigint, quote_ident(n.nspname),
    ARRAY(SELECT r FROM unnest(ARRAY['USAGE', 'CREATE']) r WHERE has_schema_privilege(n.oid, r)),
    EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'r'
        AND starts_with(c.relname, '{PREFIX}'))
FROM pg_namespace n WHERE n.nspname = ANY(%s)
"""  # noqa: S608 - a constant
_OBJECTS = """
SELECT c.relname::text, c.relkind = 'S', CASE WHEN c.relkind = 'S' THEN
    ARRAY(SELECT 'USAGE' WHERE has_sequence_privilege(c.oid, 'USAGE, UPDATE'))
    ELSE ARRAY(SELECT r FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) r
        WHERE has_table_privilege(c.oid, r)) END
FROM pg_class c WHERE c.relnamespace = %s AND c.relname = ANY(%s) ORDER BY 2, 1
"""


class Right(Struct, frozen=True):
    """What is needed on one thing.

    Attributes:
        kind: ``SCHEMA``, ``TABLE`` or ``SEQUENCE``.
        name: as a statement spells it: ``public.gonogo_calls``.
        needs: the rights that work on the ledger takes.
        missing: those of them that the role lacks.
    """

    kind: str
    name: str
    needs: tuple[str, ...]
    missing: tuple[str, ...]


class Rights(Struct, frozen=True):
    """The rights of the connected role on the ledger; the schema comes first in ``needed``."""

    role: str
    needed: tuple[Right, ...]

    @property
    def missing(self) -> tuple[Right, ...]:
        """Where the role lacks a right."""
        return tuple(right for right in self.needed if right.missing)

    @property
    def grants(self) -> tuple[str, ...]:
        """The statements that give the role what it lacks."""
        alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for right in self.missing:
            alike.setdefault((right.kind, right.missing), []).append(right.name)
        return tuple(
            f"GRANT {', '.join(missing)} ON {kind} {', '.join(names)} TO {self.role};"
            for (kind, missing), names in alike.items()
        )

    def may_read(self, table: str) -> bool:
        """Whether the role may look into ``table``; true of one that is not there."""
        return not any(
            (right.kind == "SCHEMA" and "USAGE" in right.missing)
            or ("SELECT" in right.missing and right.name.endswith(f".{table}"))
            for right in self.missing
        )

    @property
    def may_only_not_make_it(self) -> bool:
        """Whether there is no ledger, and all that is missing is the right to make one."""
        return [(right.kind, right.missing) for right in self.missing] == [("SCHEMA", ("CREATE",))]

    def require(self, where: str) -> None:
        """Raise `StoreUnavailable`, with the remedy, if a right is missing."""
        if self.may_only_not_make_it:
            raise StoreUnavailable(
                f"there is no ledger in {where} yet, and the role {self.role} may not make one; "
                f"{NOTHING}. {MAKE_IT}. If it is to own the ledger itself: {self.grants[0]}"
            )
        if self.missing:
            raise StoreUnavailable(
                f"the role {self.role} lacks rights on the ledger {where}; {NOTHING}. "
                f"Let the owner run: {' '.join(self.grants)}"
            )

    def require_schema(self, where: str) -> None:
        """`require` of the schema alone: whoever owns the tables may do all to them."""
        Rights(self.role, self.needed[:1]).require(where)


def rights_of(connection: Connection) -> Rights:
    """The rights of the role that is connected."""
    user, role, path = connection.exec_driver_sql(_ROLE).one()
    names = [_name(part, user) for part in path.split(",")]
    found = {row[0]: row for row in connection.exec_driver_sql(_SCHEMAS, (names,))}
    schemas = [found[name] for name in names if name in found]
    # A schema that holds a ledger counts though the role cannot enter it: PostgreSQL would pass
    # over it, and a second ledger would be made in the next one.
    mine = next((row for row in schemas if "USAGE" in row[3] or row[4]), None)
    mine = mine or next(iter(schemas), None)
    if mine is None:
        raise StoreUnavailable(
            f"none of the schemas in the search_path of {role} ({path}) exists; {NOTHING}. "
            "Create one, or set another search_path"
        )
    _, number, schema, held, used = mine
    needed = [_right("SCHEMA", schema, ("USAGE",) if used else ("USAGE", "CREATE"), held)]
    for name, counts, may in connection.exec_driver_sql(_OBJECTS, (number, list(NEEDS))):
        kind = "SEQUENCE" if counts else "TABLE"
        needed.append(_right(kind, f"{schema}.{name}", NEEDS[name], may))
    return Rights(role, tuple(needed))


def _right(kind: str, name: str, needs: tuple[str, ...], held: list[str]) -> Right:
    return Right(kind, name, needs, tuple(right for right in needs if right not in held))


def _name(part: str, user: str) -> str:
    """The name of a schema as the search_path spells it."""
    part = part.strip()
    if part.startswith('"'):
        part = part.strip('"').replace('""', '"')
        return user if part == "$user" else part
    return user if part == "$user" else part.lower()
