"""The error catalogue (rule 7) and the exceptions that carry it.

What a person is shown about an error, and how to resolve it, is said here once: e-mail, pages, logs and
README take it from `CATALOGUE`. The exceptions form one tree, by consequence:

    SyncError
    ├── RunError              stops the run: trying again cannot help until a person did something
    │   └── RetryableError    stops this attempt: the same step may succeed when it is tried again
    ├── StoreUnavailable      stops this attempt: the contact store cannot be reached
    ├── StoreRefused          stops this attempt: the contact store would not take what was written
    └── RunRefused            the step must not run (a later run was applied, another one took over)
        └── AnotherRunIsActive

Errors of single contacts are rows of frames, never exceptions.
"""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Whom an error concerns: one contact, one account, one value, or the whole run."""

    CONTACT = "contact"
    ACCOUNT = "account"
    WARNING = "warning"
    RUN = "run"


@dataclass(frozen=True)
class CatalogueEntry:
    """What is said about one error code. `stops` is False where the sync goes on without the faulty part."""

    code: str
    level: Level
    shown_as: str
    how_to_resolve: str
    retried: bool = False
    stops: bool = True


CATALOGUE: dict[str, CatalogueEntry] = {
    entry.code: entry
    for entry in (
        CatalogueEntry(
            "no_handle",
            Level.CONTACT,
            "Contacts do not include an email or phone number and were not synced",
            "Give each one at least one handle (email or phone) in Salesforce",
        ),
        CatalogueEntry(
            "email_taken",
            Level.CONTACT,
            "Emails were already taken by other contacts and were not synced",
            "Replace the email in Salesforce with a unique one",
        ),
        CatalogueEntry(
            "phone_taken",
            Level.CONTACT,
            "Phone numbers were already taken by other contacts and were not synced",
            "Replace the phone in Salesforce with a unique one",
        ),
        CatalogueEntry(
            "handle_taken",
            Level.CONTACT,
            "Handles were already taken by other contacts and were not synced",
            "Replace the handle in Salesforce with a unique one",
        ),
        CatalogueEntry(
            "domain_taken",
            Level.ACCOUNT,
            "Domains were already taken by other accounts and were not synced",
            "Replace the domain in Salesforce with a unique one",
        ),
        CatalogueEntry(
            "invalid_handle",
            Level.WARNING,
            "A handle could not be read and was left out",
            "Correct the value in Salesforce, or the mapping",
        ),
        CatalogueEntry(
            "invalid_value",
            Level.WARNING,
            "A value could not be read and was left out",
            "Correct the value in Salesforce, or the mapping",
        ),
        CatalogueEntry(
            "accounts_sync_failed",
            Level.RUN,
            "Contacts were not synced because accounts sync failed",
            "View and fix account sync errors, then restart the contact sync",
        ),
        CatalogueEntry(
            "field_not_found",
            Level.RUN,
            "Salesforce field not found",
            "Choose a new Salesforce field in the sync settings",
            stops=False,
        ),
        CatalogueEntry(
            "list_view_not_found",
            Level.RUN,
            "Salesforce list view not found",
            "Choose a new list view in the sync settings, then restart",
        ),
        CatalogueEntry(
            "list_view_not_usable",
            Level.RUN,
            "The list view's filter cannot be used",
            "Choose another list view, or give the connected user access to the fields it filters on",
        ),
        CatalogueEntry(
            "contact_id_mapped",
            Level.RUN,
            "The Contact ID is synced by itself and cannot be mapped",
            "Remove it from the mapping",
        ),
        CatalogueEntry(
            "too_many_contacts",
            Level.RUN,
            "The source holds more contacts than a sync can take",
            "Choose a smaller list view",
        ),
        CatalogueEntry(
            "login_failed",
            Level.RUN,
            "Salesforce refused the login",
            "Check the connection's user, secret, token",
        ),
        CatalogueEntry(
            "api_disabled",
            Level.RUN,
            "The Salesforce user lacks the API Enabled permission",
            "Setup → Profiles → Edit → Administrative Permissions → API Enabled",
        ),
        CatalogueEntry(
            "app_blocked",
            Level.RUN,
            "The connected app is blocked in Salesforce",
            "An administrator must allow (or install) the connected app",
        ),
        CatalogueEntry(
            "api_limit",
            Level.RUN,
            "Salesforce's API request limit is used up",
            "Wait for the 24-hour window, or raise the limit",
            retried=True,
        ),
        CatalogueEntry(
            "salesforce_unavailable",
            Level.RUN,
            "Salesforce did not answer, or gave up a query",
            "None; the run retries and says when it gives up",
            retried=True,
        ),
        CatalogueEntry(
            "not_balanced",
            Level.RUN,
            "Salesforce sent something else than it said it would",
            "None; the run reads again and says when it gives up",
            retried=True,
        ),
        CatalogueEntry(
            "settings_invalid",
            Level.RUN,
            "The sync settings cannot be used",
            "Correct them in the sync settings",
        ),
    )
}


class SyncError(Exception):
    """Anything this project raises on purpose."""


class RunError(SyncError):
    """A run error of the catalogue. `detail` says what happened and to which record or field; it holds no personal data.

    >>> str(RunError("list_view_not_found", "Contact list view 00B000000000001AAA"))
    'list_view_not_found: Salesforce list view not found (Contact list view 00B000000000001AAA). Choose a new list view in the sync settings, then restart'
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        entry = CATALOGUE[code]
        where = f" ({detail})" if detail else ""
        super().__init__(f"{code}: {entry.shown_as}{where}. {entry.how_to_resolve}")


class RetryableError(RunError):
    """A run error that may be gone when the same step is tried again (`api_limit`, `salesforce_unavailable`, `not_balanced`)."""


class StoreUnavailable(SyncError):
    """The contact store cannot be reached. Names the Airflow connection, never its password; may be gone when tried again."""


class StoreRefused(SyncError):
    """PostgreSQL did not take what was written, and nothing of it was kept. Names what refused, never the values."""


class RunRefused(SyncError):
    """The step must not run, for the reason given; nothing was changed."""


class AnotherRunIsActive(RunRefused):
    """One run at a time per store (rule 6.3); this one has to wait for the other."""
