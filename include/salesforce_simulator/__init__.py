"""A Salesforce organisation on loopback, for the demo, the tests and the benchmark.

It answers over TLS as Salesforce does for the calls that a contacts sync makes: logins, describe, list views,
SOQL over REST and Bulk API 2.0, deletes and merges. Beside that it has a control API, which changes records and
scripts faults. The product (`include.contact_sync`) never imports it, and it never imports the product.
"""
