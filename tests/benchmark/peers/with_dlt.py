# /// script
# dependencies = ["dlt[postgres]==1.31.0", "simple-salesforce==1.12.10"]
#
# [tool.peer]
# name = "dlt"
# shown = ["dlt", "simple-salesforce"]
# table = "salesforce.contact"
# notes = "Bulk API 2.0 through simple-salesforce, with the same pause of 5 seconds; replaces the table, as dlt's own Salesforce source does with Contact"
# ///
"""A dlt pipeline with one resource."""

import csv
import io
import json
import os
import sys

import dlt
from simple_salesforce import Salesforce

task = json.loads(os.environ["PEER"])
login = task["salesforce"]
csv.field_size_limit(sys.maxsize)


@dlt.resource(name="contact", write_disposition="replace")
def contacts():
    """The contacts, a page at a time; Salesforce has no empty text, so that an empty one is none."""
    salesforce = Salesforce(
        domain=login["domain"], consumer_key=login["consumer_key"], consumer_secret=login["consumer_secret"]
    )
    for page in salesforce.bulk2.Contact.query(f"SELECT {', '.join(task['fields'])} FROM Contact"):
        rows = csv.DictReader(io.StringIO(page, newline=""))
        yield [{name: value or None for name, value in row.items()} for row in rows]


pipeline = dlt.pipeline(
    "contacts",
    pipelines_dir=task["folder"],
    destination=dlt.destinations.postgres(task["postgres"]["uri"]),
    dataset_name="salesforce",
)
pipeline.run(contacts())
