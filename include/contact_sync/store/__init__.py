"""The contact store: the PostgreSQL schema `contact_store` and what the sync keeps in it about itself.

`connection` opens it, `migrations` brings it up to date, `settings_versions`, `runs` and `error_book` keep settings,
runs and errors. Contacts and accounts are written by `load`, nowhere else.
"""
