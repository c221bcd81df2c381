"""Salesforce, as far as the sync reads it: one login, queries whose answers are counted, list views, field types.

`Salesforce` (client) is what the rest of the product uses; every fault of Salesforce leaves this package as an error
of the catalogue. Nothing here writes to Salesforce (rule 1.1) or decides about contacts.
"""

from include.contact_sync.salesforce.client import Salesforce
from include.contact_sync.salesforce.pace import Pace

__all__ = ["Pace", "Salesforce"]
