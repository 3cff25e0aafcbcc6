"""Settings: from arguments, environment and file; mistakes are errors; secrets are not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gonogo.errors import ConfigurationError
from gonogo.settings import Settings

URL = "postgresql+psycopg://ann:hunter2@db.internal/ops"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file."""
    path = tmp_path / "gonogo.toml"
    path.write_text(
        '[gonogo]\napp = "payouts:sandbox"\nmax_workers = 2\nlease = 20.0\nqueues = "a, b"\n'
    )
    return path


def test_nothing_said_is_safe() -> None:
    """By default: in memory, and locked."""
    settings = Settings.load({})
    assert (settings.use_memory_db, settings.dry_run, settings.queue_names) == (
        True,
        True,
        ("default",),
    )


def test_arguments_beat_environment_beats_file(file: Path) -> None:
    """Each setting comes from the most deliberate place that names it."""
    environ = {"SANDBOX_LEASE": "30", "SANDBOX_MAX_WORKERS": "3", "PATH": "/bin"}
    settings = Settings.load(environ, file=file, max_workers=4)
    assert (settings.max_workers, settings.lease, settings.queue_names) == (4, 30.0, ("a", "b"))


def test_the_environment_may_name_the_file(file: Path) -> None:
    """SANDBOX_CONFIG is the path of a settings file."""
    assert Settings.load({"SANDBOX_CONFIG": str(file)}).max_workers == 2


@pytest.mark.parametrize(
    ("environ", "name", "value"),
    [
        ({"SANDBOX_DRY_RUN": "false"}, "dry_run", False),
        ({"SANDBOX_WORKER_INTERVAL": "0.5"}, "worker_interval", 0.5),
        ({"SANDBOX_PAYMENT_LIMIT": "7"}, "payment_limit", 7),
        ({"SANDBOX_EXPORT_WINDOW": "60"}, "data_export_window", 60.0),
        ({"SANDBOX_USE_MEMORY_DB": "true", "SANDBOX_DB_URL": "sqlite://"}, "use_memory_db", True),
        ({"SANDBOX_DB_URL": "sqlite:///x.db"}, "use_memory_db", False),
    ],
)
def test_texts_become_what_they_mean(environ: dict[str, str], name: str, value: Any) -> None:
    """Environment variables are texts and are converted by the setting's type."""
    assert getattr(Settings.load(environ), name) == value


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"SANDBOX_LEESE": "3"}, ["SANDBOX_LEESE", "in the environment", "SANDBOX_LEASE"]),
        ({"SANDBOX_LEASE": "soon"}, ["lease", "in the environment"]),
        ({"SANDBOX_LEASE": "0"}, ["lease", "more than 0"]),
        ({"SANDBOX_LEASE": "nan"}, ["lease"]),
        ({"SANDBOX_LEASE": "inf"}, ["lease"]),
        ({"SANDBOX_DRAIN": "-1"}, ["drain"]),
        ({"SANDBOX_MAX_WORKERS": "1.5"}, ["max_workers"]),
        ({"SANDBOX_DRY_RUN": "perhaps"}, ["dry_run"]),
        ({"SANDBOX_QUEUES": " , "}, ["queues"]),
        ({"SANDBOX_LOG_LEVEL": "loud"}, ["log_level"]),
    ],
)
def test_a_mistake_is_an_error(environ: dict[str, str], names: list[str]) -> None:
    """An unknown, ill-typed or senseless setting is refused by name and place."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(environ)
    for name in names:
        assert name in str(caught.value)


def test_mistakes_in_arguments_and_files(file: Path, tmp_path: Path) -> None:
    """The error says where the mistake stands."""
    with pytest.raises(ConfigurationError, match="unknown setting leese as an argument"):
        Settings.load({}, leese=3)
    file.write_text("[gonogo]\nleese = 3\n")
    with pytest.raises(ConfigurationError, match=r"leese in .*gonogo\.toml"):
        Settings.load({}, file=file)
    file.write_text("gonogo = 3\n")
    with pytest.raises(ConfigurationError, match="must be a table"):
        Settings.load({}, file=file)
    file.write_text("[gonogo\n")
    with pytest.raises(ConfigurationError, match="cannot read"):
        Settings.load({}, file=file)
    with pytest.raises(ConfigurationError, match="cannot read"):
        Settings.load({}, file=tmp_path / "nowhere.toml")


def test_a_password_is_never_shown() -> None:
    """Not in the repr, not in an error about something else."""
    settings = Settings.load({"SANDBOX_DB_URL": URL, "SANDBOX_PRODUCTION_URL": URL})
    assert "hunter2" not in repr(settings)
    assert "db.internal" in repr(settings)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({"SANDBOX_DB_URL": URL, "SANDBOX_LEASE": "soon"})
    assert "hunter2" not in str(caught.value)


def test_settings_do_not_change() -> None:
    """Settings are frozen; another one is made."""
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.lease = 3.0  # type: ignore[misc]  # the mistake under test
    assert settings.replaced({}, "nowhere") is settings
