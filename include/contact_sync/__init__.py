"""Brings Salesforce contacts and accounts into the contact store. `flow` tells the story; every other module is one step or one concept of it."""

import os

# For a huge page the kernel clears, and often first compacts, two megabytes that Arrow may need a little of: a night took
# half a second longer. The allocator looks here when Arrow is imported.
os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")  # ruff: ignore[non-empty-init-module] -- nothing of ours is imported before
