"""Defects of the mail about a run, looked for with a few hostile values, names and addresses."""

from collections.abc import Callable
from email.headerregistry import Address
from email.utils import getaddresses
from typing import Any

import jinja2

from include.contact_sync import conclude
from include.contact_sync.report import csv_file, operator, render
from include.contact_sync.staging import Staging
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.proof.one_run import sync
from tests.proof.prove_hostile_mail import (
    ADDRESSES,
    NAMES,
    SUBJECTS,
    Mails,
    check_named,
    check_refused,
    colliding,
    send_named,
)
from tests.proof.seeded.defect import Defect, Invariant, instead
from tests.whole_runs import Mailbox, settings_with

# ---------------------------------------------------------------------------------------------------------- scenes


def values_in_a_mail(organisation: Simulator, store: Store, staging: Staging, mailbox: Mailbox) -> None:
    Mails(store, organisation, mailbox).check(["<b>Bold</b>", "a\r\nb", "=1+1"])


def a_name_in_a_mail(organisation: Simulator, store: Store, staging: Staging, mailbox: Mailbox) -> None:
    """One whose line end shows only when a mail program decodes it."""
    colliding(organisation)
    send_named(NAMES["encoded words"])
    check_named(mailbox, SUBJECTS[0], NAMES["encoded words"])


def two_addresses_in_one(organisation: Simulator, store: Store, staging: Staging, mailbox: Mailbox) -> None:
    colliding(organisation)
    check_refused(sync(settings_with(), notify=ADDRESSES["two addresses"]), mailbox, told=2)


# --------------------------------------------------------------------------------------------------------- defects


def not_escaping(original: Callable[[], jinja2.Environment]) -> Any:
    made = original().overlay(autoescape=False)
    return lambda: made


def with_line_ends(original: Callable[[], jinja2.Environment]) -> Any:
    made = original().overlay()
    made.filters = made.filters | {"shown": lambda value, most=160: value}
    return lambda: made


def as_typed(original: Any) -> Any:
    return lambda text: text


def with_who_triggered_it(original: Any) -> Any:
    return lambda report: f"Salesforce contacts sync, {report.facts.triggered_by}"


def every_address(original: Any) -> Any:
    return lambda texts: ([Address(addr_spec=address) for _, address in getaddresses(texts)], [])


HARMLESS = Invariant.HARMLESS_MAIL
DEFECTS = [
    Defect(
        "HTML gets into the mail (8.1)",
        HARMLESS,
        instead(render, "_environment", not_escaping),
        values_in_a_mail,
        "Page.handle_starttag: assert not self._in_a_value",
    ),
    Defect(
        "line ends in values stay (8.1)",
        HARMLESS,
        instead(render, "_environment", with_line_ends),
        values_in_a_mail,
        "Mails.check: assert shown <= Counter(page.values)",
    ),
    Defect(
        "formulas get into the attachment (8.1)",
        HARMLESS,
        instead(csv_file, "make_safe", as_typed),
        values_in_a_mail,
        "Mails._check_file: assert not [cell for row in rows for cell in row",
    ),
    Defect(
        "the subject says who triggered the run (8.1)",
        HARMLESS,
        instead(conclude, "subject", with_who_triggered_it),
        a_name_in_a_mail,
        "headers_are_ours: assert list(message.keys()) == HEADERS",
    ),
    Defect(
        "several addresses in one are several (8.1)",
        HARMLESS,
        instead(operator, "_split_addresses", every_address),
        two_addresses_in_one,
        "check_refused: with pytest.raises(AirflowFailException",
    ),
]
