"""Pages of records on their way in, and the count that must come out right.

A page is an Arrow table of raw text, one column per selected field, ids in their 18-character form. Salesforce says
beforehand how many records there will be; `balanced` lets pages through and holds it to that.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.salesforce.faults import Damaged
from include.contact_sync.salesforce.ids import to_18_each

_ID_FIELDS = {"Id", "AccountId", "MasterRecordId"}


@dataclass(frozen=True)
class Page:
    """Some records. `announced` is how many Salesforce said that all pages hold together."""

    table: pa.Table
    announced: int
    bytes: int


def finished(table: pa.Table, fields: Sequence[str]) -> pa.Table:
    """Raw text as the rules want it: ids of 18 characters (rule 2.7), no record without its own."""
    table = table.rename_columns(list(fields))
    if table["Id"].null_count:
        raise Damaged("a record came without its Id")
    for position, field in enumerate(fields):
        if field in _ID_FIELDS:
            try:
                table = table.set_column(position, field, to_18_each(table[field]))
            except ValueError as invalid:
                raise Damaged(f"{field}: {invalid}") from invalid
    return table


def balanced(pages: Generator[Page]) -> Generator[Page]:
    """The same pages, as long as they add up to what Salesforce announced, each record once (rule 6.4).

    Raises:
        Damaged: they do not; too many are noticed at once.
    """
    received, announced = 0, 0
    ids: list[pa.ChunkedArray] = []
    with closing(pages):
        for page in pages:
            received += page.table.num_rows
            announced = page.announced
            if received > announced:
                raise Damaged(f"Salesforce announced {announced} records and sent more")
            ids.append(page.table["Id"])
            yield page
    if received != announced:
        raise Damaged(f"Salesforce announced {announced} records and sent {received}")
    in_order = pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string()).sort()
    repeated = pc.sum(pc.equal(in_order[1:], in_order[:-1])).as_py()  # pages mostly come in order, and sort fast
    if repeated:
        raise Damaged(f"Salesforce sent {repeated} of {received} records twice")
