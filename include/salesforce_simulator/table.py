"""The records of one object, by column, so that a million fit and a query reads only what it names.

Columns are immutable Arrow arrays; edits wait in an overlay and are folded in when a column is next read. A
reader that holds a column therefore keeps seeing the moment at which it took it, like a Salesforce cursor.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.salesforce_simulator.schema import Field, ObjectSchema


class Table:
    """Rows of an object. A field that no row fills takes no memory."""

    def __init__(self, schema: ObjectSchema, columns: Mapping[str, pa.Array]) -> None:
        self.schema = schema
        self._columns = dict(columns)
        self._rows = len(self._columns["Id"]) if "Id" in self._columns else 0
        self._overlay: dict[str, dict[int, Any]] = {}
        self._appended: list[dict[str, Any]] = []
        self._row_of: dict[str, int] | None = None
        self.generation = 0

    def __len__(self) -> int:
        return self._rows + len(self._appended)

    def copy(self) -> "Table":
        """The table as it is now; it shares the columns, which nobody changes."""
        self._fold()
        twin = Table(self.schema, self._columns)
        twin._row_of = self._row_of
        twin.generation = self.generation
        return twin

    def column(self, name: str) -> pa.Array:
        """All values of a field, deleted records included."""
        self._fold()
        return self._columns[name] if name in self._columns else self._empty(self.schema.fields[name])

    def row_of(self, identifier: str) -> int | None:
        """Where the record with this 18-character id is."""
        self._fold_appended()
        if self._row_of is None:
            self._row_of = {one: row for row, one in enumerate(self._columns["Id"].to_pylist())}
        return self._row_of.get(identifier)

    def value(self, row: int, name: str) -> Any:
        """One value. Waiting edits are looked up, not folded in: edits of single records stay cheap."""
        self._fold_appended()
        overlay = self._overlay.get(name, {})
        if row in overlay:
            return overlay[row]
        return self._columns[name][row].as_py() if name in self._columns else self._fit(name, None)

    def rows_where(self, name: str, values: Iterable[str]) -> list[int]:
        """The rows whose text field has one of the values, case and all."""
        found = pc.is_in(self.column(name), value_set=pa.array(list(values), pa.string()))
        return [int(row) for row in np.flatnonzero(found.to_numpy(zero_copy_only=False))]

    def append(self, values: Mapping[str, Any]) -> None:
        """Add a record."""
        self._appended.append({name: self._fit(name, value) for name, value in values.items()})
        self.generation += 1

    def edit(self, row: int, values: Mapping[str, Any]) -> None:
        """Change some fields of a record."""
        self._fold_appended()
        for name, value in values.items():
            self._overlay.setdefault(name, {})[row] = self._fit(name, value)
        self.generation += 1

    def rename(self, row: int, identifier: str) -> None:
        """Give a record another id: only for making organisations."""
        self.edit(row, {"Id": identifier})
        self._fold()
        self._row_of = None

    def remove(self, rows: Iterable[int]) -> None:
        """Forget records, as a purge does."""
        self._fold()
        keep = np.ones(self._rows, dtype=bool)
        keep[list(rows)] = False
        mask = pa.array(keep)
        self._columns = {name: column.filter(mask) for name, column in self._columns.items()}
        self._rows = int(keep.sum())
        self._row_of = None
        self.generation += 1

    def change_schema(self, schema: ObjectSchema) -> None:
        """Take over added and deleted fields; the values of a deleted field are gone."""
        self._fold()
        self.schema = schema
        self._columns = {name: column for name, column in self._columns.items() if name in schema.fields}
        self.generation += 1

    def _empty(self, definition: Field) -> pa.Array:
        if definition.type == "boolean":
            return pa.array(np.zeros(self._rows, dtype=bool))
        return pa.nulls(self._rows, definition.arrow_type)

    def _fit(self, name: str, value: Any) -> Any:
        """A value as the field keeps it. Salesforce keeps no empty text: it is null."""
        definition = self.schema.fields[name]
        if value is None or value == "":
            return False if definition.type == "boolean" else None
        if isinstance(value, str) and definition.type == "datetime":
            value = datetime.fromisoformat(value)
        if isinstance(value, str) and definition.type == "date":
            value = date.fromisoformat(value)
        return value

    def _fold(self) -> None:
        self._fold_appended()
        self._fold_overlay()

    def _fold_appended(self) -> None:
        if not self._appended:
            return
        self._fold_overlay()
        added, self._appended = self._appended, []
        names = set(self._columns).union(*added)
        for name in names:
            definition = self.schema.fields[name]
            new = pa.array([self._filled(definition, record.get(name)) for record in added], definition.arrow_type)
            old = self._columns[name] if name in self._columns else self._empty(definition)
            self._columns[name] = pa.concat_arrays([old, new])
        if self._row_of is not None:
            self._row_of |= {record["Id"]: self._rows + place for place, record in enumerate(added)}
        self._rows += len(added)

    @staticmethod
    def _filled(definition: Field, value: Any) -> Any:
        return False if value is None and definition.type == "boolean" else value

    def _fold_overlay(self) -> None:
        overlay, self._overlay = self._overlay, {}
        for name, changes in overlay.items():
            definition = self.schema.fields[name]
            rows = sorted(changes)
            mask = np.zeros(self._rows, dtype=bool)
            mask[rows] = True
            old = self._columns[name] if name in self._columns else self._empty(definition)
            new = pa.array([changes[row] for row in rows], definition.arrow_type)
            self._columns[name] = pc.replace_with_mask(old, pa.array(mask), new)
