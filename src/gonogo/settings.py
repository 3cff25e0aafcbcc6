"""All settings in one place: from arguments, the environment (``SANDBOX_*``) and a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct, structs

from gonogo.errors import ConfigurationError
from gonogo.secrets import redact_text

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "SANDBOX_"
FILE = "SANDBOX_CONFIG"
"""Names a TOML file to read; its settings stand in the table ``[gonogo]``."""

APP = "app"
"""The name in that table which is no setting: it tells the command line where the sandbox is."""

DEFAULT_LIMITS = {
    "payment": ("payment_limit", "payment_window"),
    "api_call": ("api_limit", "api_window"),
    "data_export": ("data_export_limit", "data_export_window"),
}
"""The limits a sandbox has without a declaration: the settings of units and window, by name."""

_ALIASES = {"export_limit": "data_export_limit", "export_window": "data_export_window"}


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one sandbox. Durations are seconds, windows too.

    Every field can be set by an environment variable: ``db_url`` by ``SANDBOX_DB_URL``.

    Attributes:
        db_url: SQLAlchemy URL of the ledger; ``None`` with ``use_memory_db`` false is a private
            temporary SQLite file.
        production_url: the production database; a sandbox on the same one is refused.
        environment: a name, such as ``staging``; a ledger belongs to the first one that used it.
        dry_run: locked until armed or approved. False is live by configuration.
        strict: the dry-run lock's `execute` raises instead of returning a marker.
        worker_interval: seconds between two looks into the ledger when idle.
        lease: seconds a worker's claim holds without being renewed.
        queues: names of the queues this process takes jobs from, separated by commas.
        payment_limit, api_limit, data_export_limit: units a window, set by `initialize`.
        idempotency_ttl: how long `IdempotencyManager.process_idempotent` remembers.
        retention: how long finished calls that hold no key are kept, two minutes at least;
            ``None`` is for ever.
        plan_ttl: how long a plan can be approved and applied.
        drain: how long `cleanup` and SIGTERM wait for jobs under way.
        log_json: write log lines as JSON (true) or for people (false); unset leaves logging alone.
    """

    db_url: str | None = None
    use_memory_db: bool = True
    production_url: str | None = None
    environment: str | None = None
    dry_run: bool = True
    strict: bool = False
    worker_interval: float = 5.0
    max_workers: int = 1
    lease: float = 30.0
    queues: str = "default"
    heartbeat_interval: float = 10.0
    heartbeat_timeout: float = 30.0
    payment_limit: int = 100
    payment_window: float = 3600.0
    api_limit: int = 1000
    api_window: float = 60.0
    data_export_limit: int = 10
    data_export_window: float = 3600.0
    max_retries: int = 3
    base_delay: float = 1.0
    max_delay: float = 60.0
    idempotency_ttl: float = 3600.0
    max_alerts: int = 1000
    retention: float | None = None
    plan_ttl: float = 86_400.0
    drain: float = 30.0
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "debug"
    log_json: bool | None = None

    def __repr__(self) -> str:
        shown = {n: getattr(self, n) for n in self.__struct_fields__}
        inner = ", ".join(f"{n}={redact_text(repr(v))}" for n, v in shown.items() if v is not None)
        return f"Settings({inner})"

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigurationError(
                    f"setting {name}={value!r} must be more than 0, and finite"
                )
        if not self.drain >= 0:
            raise ConfigurationError(f"setting drain={self.drain!r} must not be negative")
        if not self.queue_names:
            raise ConfigurationError(f"setting queues={self.queues!r} must name at least one queue")

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str],
        *,
        file: str | Path | None = None,
        **given: Any,
    ) -> Settings:
        """Settings by falling priority: ``given``, ``environ``, the TOML file, the defaults.

        Raises `ConfigurationError` for an unknown or ill-typed setting, and for a file that
        cannot be read; the message says which one and where it was set.
        """
        merged = cls()
        path = file or environ.get(FILE)
        if path is not None:
            merged = merged.replaced(_from_file(path), f"in {path}")
        variables = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in environ.items()
            if name.startswith(PREFIX) and name != FILE
        }
        merged = merged.replaced(variables, "in the environment", prefix=PREFIX)
        return merged.replaced(given, "as an argument")

    def replaced(self, changes: Mapping[str, Any], where: str, prefix: str = "") -> Settings:
        """These settings with ``changes``; a database URL turns the memory default off."""
        if not changes:
            return self
        named = {_ALIASES.get(name, name): value for name, value in changes.items()}
        if unknown := sorted(set(named) - set(self.__struct_fields__)):
            shown = ", ".join(_spelled(name, prefix) for name in unknown)
            raise ConfigurationError(
                f"unknown setting {shown} {where}; there are "
                f"{', '.join(_spelled(n, prefix) for n in self.__struct_fields__)}"
            )
        if named.get("db_url") and "use_memory_db" not in named:
            named["use_memory_db"] = False
        try:
            return msgspec.convert({**structs.asdict(self), **named}, Settings, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"a setting {where} has the wrong type: {error}") from error

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues as a tuple."""
        return tuple(name.strip() for name in self.queues.split(",") if name.strip())


_POSITIVE = (
    "worker_interval",
    "max_workers",
    "lease",
    "heartbeat_interval",
    "heartbeat_timeout",
    "payment_limit",
    "payment_window",
    "api_limit",
    "api_window",
    "data_export_limit",
    "data_export_window",
    "idempotency_ttl",
    "max_alerts",
    "plan_ttl",
    "retention",
)


def _spelled(name: str, prefix: str) -> str:
    return prefix + name.upper() if prefix else name


def _from_file(path: str | Path) -> Mapping[str, Any]:
    import tomllib  # noqa: PLC0415 - only those with a file need it

    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
            document = tomllib.loads(file.read())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot read the settings file {path}: {error}") from error
    table = document.get("gonogo", {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: [gonogo] must be a table of settings")
    return {name: value for name, value in table.items() if name != APP}
