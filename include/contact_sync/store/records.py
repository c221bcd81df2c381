"""Reads the store as matching needs it: keys, handles and the columns that are mapped, nothing else.

The fingerprint tells whether the store is still as it was read; whoever plans takes that of a moment before reading, so
that an edit in between is noticed when the plan is applied (rule 6.2). Nothing is written here; `load` does that.
"""

from contextlib import nullcontext

import psycopg
import pyarrow as pa
from psycopg import sql as compose

from include.contact_sync.columns import Columns, Part, ValueColumn
from include.contact_sync.match import StoredRecords
from include.contact_sync.store.connection import connect, read_frame, read_frames, sql


def read_stored_records(columns: Columns, merges: pa.Table) -> StoredRecords:
    """Everything that `match` asks of the store for one part."""
    # PostgreSQL cuts a name after 63 bytes; a custom field's may be longer.
    short = {f"field {number}": field for number, field in enumerate(columns.fields)}
    fields = [
        compose.SQL(", {} AS {}").format(_expression(field), compose.Identifier(name)) for name, field in short.items()
    ]
    query = compose.SQL(sql(f"read_{columns.part}")).format(fields=compose.SQL("").join(fields))
    is_contacts = columns.part is Part.CONTACTS
    handles = sql("read_contact_handles" if is_contacts else "read_account_domains")
    # All at one moment: a handle must find the record that owns it.
    frames = read_frames([query, handles, *([sql("read_linked_accounts")] if is_contacts else [])])
    records = frames[0].rename_columns([short[name].name if name in short else name for name in frames[0].column_names])
    return StoredRecords(records, frames[1], frames[2] if is_contacts else _NO_ACCOUNTS, merges)


def read_linked_accounts() -> pa.Table:
    """`id` and `external_id` of every linked account."""
    return read_frame(sql("read_linked_accounts"))


def read_fingerprint(part: Part, moment: psycopg.Connection | None = None) -> str:
    """A text that changes with every change to what `part` is matched against.

    Args:
        moment: a session of `one_moment`, whose moment it tells; otherwise that of now.
    """
    with nullcontext(moment) if moment else connect() as connection:
        row = connection.execute(sql(f"fingerprint_{part}")).fetchone()
    assert row is not None
    return str(row[0])


def _expression(field: ValueColumn) -> compose.Composable:
    if field.custom_field is not None:
        return compose.SQL("(custom_fields -> {})::text").format(compose.Literal(field.custom_field))
    return compose.SQL("links::text") if field.name == "links" else compose.Identifier(field.name)


_NO_ACCOUNTS = pa.table({"id": pa.array([], pa.int64()), "external_id": pa.array([], pa.string())})
