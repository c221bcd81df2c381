"""Whether the organisation agrees with the settings: what `settings check` asks before a run would find out."""

from collections.abc import Iterator

from include.contact_sync.errors import RunError
from include.contact_sync.salesforce.client import Salesforce
from include.contact_sync.salesforce.faults import Refused
from include.contact_sync.salesforce.fields import unusable_fields
from include.contact_sync.salesforce.list_views import not_usable
from include.contact_sync.salesforce.soql import Query
from include.contact_sync.settings import AccountsSettings, ContactsSettings, ListViewSource, Settings


def check_settings(salesforce: Salesforce, settings: Settings) -> list[str]:
    """Every fault as a sentence: objects, fields and list views that the connected user cannot read or a sync not use.

    The login itself was made by `Salesforce.connect`. A fault that would hide all others (no permission for the API,
    limit used up, no answer) ends the check.
    """
    faults: list[str] = []
    parts = ((settings.accounts, "Account"), (settings.contacts, "Contact"))
    try:
        for part, sobject in parts:
            if part.enabled:
                faults.extend(_field_faults(salesforce, part, sobject))
                faults.extend(_list_view_faults(salesforce, part, sobject, settings.maximum_contacts))
    except RunError as unusable:
        faults.append(str(unusable))
    return faults


def _field_faults(salesforce: Salesforce, part: AccountsSettings | ContactsSettings, sobject: str) -> Iterator[str]:
    needed = ["AccountId"] if sobject == "Contact" else []
    try:
        resolved = salesforce.resolve_fields(sobject, [line.salesforce_field for line in part.mapping], needed)
    except RunError as fault:
        if fault.code != "settings_invalid":
            raise
        yield str(fault)
        return
    yield from (str(RunError("field_not_found", f"{sobject}: {name}")) for name in resolved.missing)
    yield from (str(error) for error in unusable_fields(sobject, resolved))


def _list_view_faults(
    salesforce: Salesforce, part: AccountsSettings | ContactsSettings, sobject: str, maximum: int
) -> Iterator[str]:
    if not isinstance(part.source, ListViewSource):
        return
    list_view = part.source.list_view
    try:
        chosen = salesforce.list_view_filter(sobject, list_view)
        conditions = (chosen.condition,) if chosen.condition else ()
        count = salesforce.count(Query(sobject, scope=chosen.scope, conditions=conditions))
    except Refused as refused:
        yield str(not_usable(sobject, list_view, refused.detail))
    except RunError as fault:
        if fault.code not in {"list_view_not_found", "list_view_not_usable"}:
            raise
        yield str(fault)
    else:
        if sobject == "Contact" and (count or 0) > maximum:
            yield str(RunError("too_many_contacts", f"{count:,}; a sync takes at most {maximum:,}"))
