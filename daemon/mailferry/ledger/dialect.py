"""The one place where the SQL of the engines differs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Dialect, Table, func, literal
from sqlalchemy.dialects import postgresql, sqlite

_Insert = sqlite.Insert | postgresql.Insert
_INSERTS: Final[dict[str, Callable[[Table], _Insert]]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


@cache
def upsert(dialect_name: str, table: Table) -> _Insert:
    """Return the statement that writes a whole row, new or not, by primary key."""
    statement = _INSERTS[dialect_name](table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={column.name: statement.excluded[column.name] for column in table.c if not column.primary_key},
    )


@lru_cache(maxsize=64)
def upsert_text(dialect: Dialect, table: Table) -> str:
    """Return the same as text, which takes a row's values in the order of the columns."""
    compiled = upsert(dialect.name, table).compile(
        dialect=dialect, column_keys=[column.name for column in table.c]
    )
    assert compiled.positional, dialect.name
    return str(compiled)


def octets_contain(connection: Connection, column: Column[Any], needle: bytes) -> ColumnElement[bool]:
    """Return the condition that `needle` occurs in a column of octets."""
    if connection.dialect.name == "sqlite":
        return func.instr(column, needle) > 0
    return func.position(literal(needle).op("IN")(column)) > 0
