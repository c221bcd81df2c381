# /// script
# dependencies = ["simple-salesforce==1.12.10", "pandas==3.1.1", "SQLAlchemy==2.1.9", "psycopg[binary]==3.3.9"]
#
# [tool.peer]
# name = "simple-salesforce + to_sql"
# shown = ["simple-salesforce", "pandas", "SQLAlchemy"]
# table = "public.contact"
# notes = "Bulk API 2.0, pages read by `pandas.read_csv` as it is by default; the table is replaced by each sync; 5 of the seconds are simple-salesforce's pause before it first looks at the job"
# ///
"""The script that is written first: query in bulk, read the CSV with pandas, replace the table."""

import io
import json
import os

import pandas as pd
from simple_salesforce import Salesforce
from sqlalchemy import create_engine

task = json.loads(os.environ["PEER"])
login = task["salesforce"]
salesforce = Salesforce(
    domain=login["domain"], consumer_key=login["consumer_key"], consumer_secret=login["consumer_secret"]
)
pages = salesforce.bulk2.Contact.query(f"SELECT {', '.join(task['fields'])} FROM Contact")
contacts = pd.concat([pd.read_csv(io.StringIO(page)) for page in pages], ignore_index=True)
contacts.to_sql("contact", create_engine(task["postgres"]["uri"]), if_exists="replace", index=False)
