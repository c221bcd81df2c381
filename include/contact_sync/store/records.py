"""Reads the store as matching needs it: keys, handles and the columns that are mapped, nothing else.

The fingerprint tells whether the store is still as it was read; whoever plans takes that of the moment that he reads, so
that a later edit is noticed when the plan is applied (rule 6.2). Nothing is written here; `load` does that.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import pyarrow as pa
from psycopg import sql as compose

from include.contact_sync.arrays import FEW_TEXTS
from include.contact_sync.columns import Columns, Part, ValueColumn
from include.contact_sync.match import StoredRecords
from include.contact_sync.store.connection import Moment, connect, one_moment, read_frame, read_frames, sql

ALL = compose.SQL("true")


@dataclass(frozen=True)
class Fingerprint:
    """What changes with every change to what a part is matched against.

    Attributes:
        text: the same as long as nobody changed anything.
        records: how many contacts or accounts there are.
        handles: how many handles or domains.
    """

    text: str
    records: int
    handles: int


def read_stored_records(columns: Columns, merges: pa.Table, moment: Moment | None = None) -> StoredRecords:
    """Everything that `match` asks of the store for one part, all at one moment: a handle must find the record that owns it.

    Args:
        moment: which one; otherwise that of now.
    """
    is_contacts = columns.part is Part.CONTACTS
    queries = [records_query(columns), handles_query() if is_contacts else sql("read_account_domains")]
    if is_contacts:
        queries.append(sql("read_linked_accounts"))
    with nullcontext(moment) if moment else one_moment() as seen:
        records, handles, *accounts = read_frames(queries, seen)
    handles = with_few_texts(handles)
    return StoredRecords(named(records, columns), handles, accounts[0] if accounts else _NO_ACCOUNTS, merges)


def records_query(columns: Columns, wanted: compose.Composable = ALL) -> compose.Composed:
    """The keys and mapped columns of a part's records, in the order of their ids; `named` gives them their names."""
    fields = [
        compose.SQL(", {} AS {}").format(_expression(field), compose.Identifier(name))
        for name, field in _short_names(columns).items()
    ]
    return compose.SQL(sql(f"read_{columns.part}")).format(fields=compose.SQL("").join(fields), wanted=wanted)


def handles_query(wanted: compose.Composable = ALL) -> compose.Composed:
    """The handles of contacts, in any order; `with_few_texts` makes them smaller."""
    return compose.SQL(sql("read_contact_handles")).format(wanted=wanted)


def named(records: pa.Table, columns: Columns) -> pa.Table:
    """What `records_query` gives, with the names of the columns."""
    short = _short_names(columns)
    return records.rename_columns([short[name].name if name in short else name for name in records.column_names])


def with_few_texts(handles: pa.Table) -> pa.Table:
    """What `handles_query` gives, with sources and fields of few bytes each."""
    for name in ("source", "salesforce_field"):
        place = handles.schema.get_field_index(name)
        handles = handles.set_column(place, name, handles[name].dictionary_encode().cast(FEW_TEXTS))
    return handles


def read_linked_accounts() -> pa.Table:
    """`id` and `external_id` of every linked account."""
    return read_frame(sql("read_linked_accounts"))


def read_fingerprint(part: Part, moment: Moment | None = None) -> Fingerprint:
    """The fingerprint of the store.

    Args:
        moment: when; otherwise now.
    """
    with nullcontext(moment.session) if moment else connect() as connection:
        row = connection.execute(sql(f"fingerprint_{part}")).fetchone()
    assert row is not None
    return Fingerprint(*row)


def _short_names(columns: Columns) -> dict[str, ValueColumn]:
    """PostgreSQL cuts a name after 63 bytes; a custom field's may be longer."""
    return {f"field {number}": field for number, field in enumerate(columns.fields)}


def _expression(field: ValueColumn) -> compose.Composable:
    if field.custom_field is not None:
        return compose.SQL("(custom_fields -> {})::text").format(compose.Literal(field.custom_field))
    return compose.SQL("links::text") if field.name == "links" else compose.Identifier(field.name)


_NO_ACCOUNTS = pa.table({"id": pa.array([], pa.int64()), "external_id": pa.array([], pa.string())})
