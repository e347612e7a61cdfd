"""Bring a database to the tables that this program knows, or refuse it.

Alembic is imported only when something has to be done: reading one version
number does not need it, and a daemon starts sooner and smaller without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from mailferry.errors import StoreError
from mailferry.ledger.schema import HEAD, VERSION_TABLE

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def migrate(connection: Connection, place: str) -> bool:
    """Make the tables what this program needs; tell whether anything was done.

    Runs inside the caller's transaction, so that a failure leaves all as it was.

    Raises:
        StoreError: a newer mailferry or another program made the database.
    """
    version = stored_version(connection)
    if version == HEAD:
        return False
    _refuse_newer(version, place)
    if version is None and (names := inspect(connection).get_table_names()):
        raise StoreError(
            f"{place}: holds the tables of another program ({', '.join(sorted(names)[:5])}): "
            "set [ledger] url to a database of its own"
        )
    _upgrade(connection, place)
    return True


def require_head(connection: Connection, place: str) -> None:
    """Check, without changing anything, that the tables are those of this program.

    Raises:
        StoreError: they are older, newer, or not there.
    """
    version = stored_version(connection)
    if version == HEAD:
        return
    _refuse_newer(version, place)
    found = f"tables of version {version}" if version else "no ledger"
    raise StoreError(f"{place}: {found}, version {HEAD} is needed: start the daemon once, it brings them up")


def stored_version(connection: Connection) -> str | None:
    """Return the revision that the database says it has, None for a database without one."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 -- a constant
    return version


def _refuse_newer(version: str | None, place: str) -> None:
    if version is not None and version > HEAD:
        raise StoreError(
            f"{place}: a newer mailferry has used this ledger (its version is {version}, this program knows {HEAD}): "
            "install that mailferry again, or put back the copy made before the upgrade"
        )


def _upgrade(connection: Connection, place: str) -> None:
    from alembic import command  # noqa: PLC0415 -- see the module's docstring
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    # The value goes through ConfigParser, where a percent sign has a meaning.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise StoreError(f"{place}: cannot be upgraded: {error}") from error
