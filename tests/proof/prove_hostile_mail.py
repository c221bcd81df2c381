"""What people type never becomes markup, a line, a formula or a header of the mail about a run; every value in it can be
read there as it is. The mail is parsed back as it came over the line.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from email.message import EmailMessage
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.contact_sync.conclude import RunReport
from include.contact_sync.errors import RunError
from include.contact_sync.report import render
from include.contact_sync.settings import Settings
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.proof.conftest import Score
from tests.proof.hostile_values import SHOWN_OTHERWISE, TEXTS
from tests.proof.invariants import broken
from tests.proof.one_run import send_report, sync
from tests.whole_runs import OWNER, PERSON, Mailbox, lines, save, settings_with

pytestmark = pytest.mark.usefixtures("staging")

# ------------------------------------------------------------------------------------------------ a mail, read back

HEADERS = ["Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]


class Page(HTMLParser):
    """An HTML page: its elements and attributes in their order, and the text of each value that it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.links: list[str | None] = []
        self.values: list[str] = []
        self._in_a_value = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not self._in_a_value, f"a value became the element {tag}"
        self.elements.append((tag, tuple((name, "" if name == "href" else value) for name, value in attrs)))
        self.links += [value for name, value in attrs if name == "href"]
        if tag == "bdi":
            self._in_a_value = True
            self.values.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_a_value = self._in_a_value and tag != "bdi"

    def handle_data(self, data: str) -> None:
        if self._in_a_value:
            self.values[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment in the mail: {data}")


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def rows_of(message: EmailMessage) -> list[dict[str, str]]:
    (attached,) = message.iter_attachments()
    content = attached.get_payload(decode=True)
    assert isinstance(content, bytes)
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))


# ------------------------------------------------------------------------------------------------- values in the mail

IN_A_MAIL = 20
"""As many records of one kind stand in a mail."""


def settings_for_values() -> Settings:
    return settings_with(contacts={"mapping": lines(Key__c="custom_handle", Email="email")})


def test_every_value_stands_in_the_mail_as_it_is_and_never_as_markup_line_or_formula(
    store: Store, organisation: Simulator, mailbox: Mailbox, score: Score
) -> None:
    """Rules 7 and 8.1: as a handle that is taken, as its holder's, and as a value that could not be read."""
    texts = {text: kind for kind, found in TEXTS.items() for text in found if text.strip()}
    mails = Mails(store, organisation, mailbox)
    for at in range(0, len(texts), IN_A_MAIL):
        mails.check(list(texts)[at : at + IN_A_MAIL])
        score.tried["mails"] += 1
    for kind in texts.values():
        score.met[kind] += 1
    score.expect(TEXTS)


class Mails:
    """Mails about contacts that claim a hostile handle; all of them look like one about harmless handles."""

    def __init__(self, store: Store, organisation: Simulator, mailbox: Mailbox) -> None:
        self.store, self.control, self.mailbox = store, organisation.control, mailbox
        self.control.add_field(sobject="Contact", name="Key__c", type="textarea", length=32_000)
        self.name = "<script>alert('name')</script>"
        (self.account,) = self.control.create(sobject="Account", records=[{"Name": self.name}])
        self.harmless = 0
        self._send([])
        self.model = self._send([])[0]

    def check(self, texts: list[str]) -> None:
        message, winners, losers = self._send(texts)
        model = Page(body(self.model, "html"))
        page = Page(body(message, "html"))
        assert page.elements == model.elements
        assert page.links == links_of(winners, losers, self._address())
        claims = [as_shown(text.strip()) for text in texts]
        holders = [as_shown(f"custom {text.strip()}") for text in texts]
        unread = [as_shown(text) for text in texts]
        shown = Counter(claims + holders + unread)
        assert shown <= Counter(page.values), shown - Counter(page.values)
        self._check_text(body(message, "plain"), losers, winners, texts)
        self._check_file(rows_of(message), losers, winners, texts)

    def _address(self) -> str:
        ((address,),) = self.store.execute(
            "SELECT steps #>> '{validate_settings,salesforce_url}' FROM contact_store.sync_runs ORDER BY id DESC LIMIT 1"
        )
        return str(address)

    def _check_text(self, text: str, losers: list[str], winners: list[str], texts: list[str]) -> None:
        found = text.splitlines()  # also at the line ends that only some programs know
        assert len(found) == len(body(self.model, "plain").splitlines())
        for loser, winner, value in zip(losers, winners, texts, strict=False):
            at = found.index(f"- {loser} (new)")
            assert found[at + 2] == f"  Key__c: {as_shown(value.strip())}"
            assert found[at + 3].startswith(f"  {as_shown(f'custom {value.strip()}')} belongs to contact ")
            at = found.index(f"- {winner} (new)")
            assert found[at + 2] == f"  Email: {as_shown(value)}"

    def _check_file(self, rows: list[dict[str, str]], losers: list[str], winners: list[str], texts: list[str]) -> None:
        by_record = {row["Salesforce record"]: row for row in rows}
        assert len(by_record) == len(rows)
        for loser, winner, value in zip(losers, winners, texts, strict=False):
            assert without_guards(by_record[loser]["Value"]) == without_guards(value.strip())
            assert without_guards(by_record[winner]["Value"]) == without_guards(value)
            assert without_guards(by_record[loser]["Holders"]).startswith(
                without_guards(f"custom {value.strip()}: contact ")
            )
        assert not [cell for row in rows for cell in row.values() if is_formula(cell)]

    def _send(self, texts: list[str]) -> tuple[EmailMessage, list[str], list[str]]:
        """A run that finds a pair of contacts for each text, and its mail; returns those who have and who want it."""
        while len(texts) < IN_A_MAIL:
            self.harmless += 1
            texts = [*texts, f"harmless {self.harmless}"]
        person = {"LastName": self.name, "AccountId": self.account}
        records = [person | {"Key__c": text, "Email": text} for text in texts] + [
            person | {"Key__c": text} for text in texts
        ]
        ids = self.control.create(sobject="Contact", records=records)
        concluded = sync(settings_for_values())
        assert concluded.run.state == "succeeded"
        assert broken(self.store) == {}
        send_report(concluded)
        return self.mailbox.messages[-1], ids[:IN_A_MAIL], ids[IN_A_MAIL:]


def links_of(winners: list[str], losers: list[str], address: str) -> list[str]:
    """Where the mail leads: to records of this Salesforce and nowhere else; section by section."""

    def link(record: str) -> str:
        return f"{address}/lightning/r/Contact/{record}/view"

    taken = [link(each) for loser, winner in zip(losers, winners, strict=True) for each in (loser, winner)]
    return [*taken, *map(link, winners)]


def as_shown(text: str) -> str:
    """A value in a mail is kept to one line of 160 characters and cannot turn the text behind it around."""
    if len(text) > 160:
        return f"{text[:160]}… ({len(text)} characters)"
    head, text = ("custom ", text.removeprefix("custom ")) if text.startswith("custom ") else ("", text)
    return head + SHOWN_OTHERWISE.get(text, text)


def without_guards(text: str) -> str:
    """An apostrophe in front of a sign is the only thing that a cell may have more than the value."""
    return text.replace("'", "")


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet would take the cell, or what stands behind a separator or line end in it, for a formula."""
    return any(
        re.match(r"[\s\x00-\x1f\u200b\ufeff\u202a-\u202e\u2066-\u2069]*[=+\-@＝＋－＠]", part)
        for part in re.split(r"[;\t\r\n]", cell)
    )


# ------------------------------------------------------------------------------------------------ headers of the mail

EVIL = "evil@example.net"
NAMES = {
    "CR LF": f"ann\r\nBcc: {EVIL}",
    "LF": f"ann\nBcc: {EVIL}",
    "CR": f"ann\rBcc: {EVIL}",
    "folded": f"ann\r\n\tBcc: {EVIL}",
    "an empty line": f"ann\r\n\r\n<html>{EVIL}",
    "other line ends": f"ann\u2028Bcc: {EVIL}\u2029Bcc: {EVIL}\x85Bcc: {EVIL}\x0bBcc: {EVIL}\x0cBcc: {EVIL}",
    "encoded words": f"=?utf-8?q?ann=0D=0ABcc:_{EVIL}?= of Acme",
    "markup": f'"><a href="mailto:{EVIL}"><b>ann</b></a><!--',
    "many addresses": f"{EVIL}, {EVIL}",
}
"""Names of persons and of DAG runs that would be headers."""
ADDRESSES = {
    "CR LF": f"{PERSON}\r\nBcc: {EVIL}",
    "LF": f"{PERSON}\nBcc: {EVIL}",
    "CR": f"{PERSON}\rBcc: {EVIL}",
    "another line end": f"{PERSON}\u2028{EVIL}",
    "a command of SMTP": f"{PERSON}>\r\nRCPT TO:<{EVIL}",
    "two addresses": f"{PERSON}, {EVIL}",
    "two addresses and a semicolon": f"{PERSON};{EVIL}",
    "brackets": f"{PERSON}>,<{EVIL}",
    "a name": f'"{PERSON}" <{EVIL}>',
    "a group": f"all: {PERSON}, {EVIL};",
    "encoded words": f"=?utf-8?q?{PERSON}=0D=0ABcc:_{EVIL}?=",
}
"""Addresses that are more than one, or none."""


def colliding(organisation: Simulator) -> None:
    """Something to report: two contacts that claim one address."""
    control = organisation.control
    (acme,) = control.create(sobject="Account", records=[{"Name": "Acme"}])
    records = [{"LastName": "x", "Email": "a@example.org", "AccountId": acme}] * 2
    control.create(sobject="Contact", records=records)


def headers_are_ours(message: EmailMessage, recipients: list[str], expected: list[str], subject: str) -> None:
    assert list(message.keys()) == HEADERS
    assert recipients == expected
    assert [address.addr_spec for address in message["To"].addresses] == expected
    assert (str(message["From"]), str(message["Subject"])) == ("sync@example.com", subject)
    assert EVIL not in str(dict(message.items()))


SUBJECTS = (
    "Salesforce contacts sync: 1 error open (1 new, 0 still open)",
    "Salesforce contacts sync: 1 error open (0 new, 1 still open)",
)


def test_no_name_reaches_a_header_of_the_mail(
    store: Store, organisation: Simulator, mailbox: Mailbox, score: Score
) -> None:
    """Who triggered the run and how the DAG run is called stand in the text, where they stay on their own line."""
    colliding(organisation)
    for name, text in NAMES.items():
        send_named(text)
        assert broken(store) == {}
        check_named(mailbox, SUBJECTS[score.tried["mails"] > 0], text)
        score.met[name] += 1
        score.tried["mails"] += 1
    score.expect(NAMES)


def send_named(text: str) -> RunReport:
    concluded = sync(settings_with(), trigger="manual", triggered_by=text, dag_run_id=text)
    send_report(concluded)
    return concluded


def check_named(mailbox: Mailbox, subject: str, text: str) -> None:
    message = mailbox.messages[-1]
    headers_are_ours(message, mailbox.recipients[-1], [OWNER], subject)
    plain = body(message, "plain").splitlines()
    on_one_line = " ↵ ".join(text.replace("\r\n", "\n").splitlines())
    assert f"Triggered: by hand ({on_one_line})" in plain
    assert [line for line in plain if line.startswith("Run: ") and line.endswith(f"({on_one_line})")]
    html = body(message, "html")
    cells = re.findall(r'overflow-wrap:anywhere;word-break:break-word">([^<]*)</td>', html)
    assert f"by hand ({on_one_line})" in [unescape(cell) for cell in cells]
    assert "mailto:" not in "".join(filter(None, Page(html).links))


@pytest.mark.parametrize("place", ["owners", "people"])
def test_settings_refuse_addresses_that_are_more_than_one(score: Score, place: str) -> None:
    for name, text in ADDRESSES.items():
        wrong: dict[str, Any] = {"owners": [text]} if place == "owners" else {"people": {"ann": text}}
        with pytest.raises(RunError, match="settings_invalid") as refusal:
            settings_with(**wrong)
        assert refusal.value.detail.startswith(place)
        assert EVIL not in str(refusal.value)  # faults are logged
        score.met[name] += 1
        score.tried["addresses"] += 1
    score.expect(ADDRESSES)


def test_settings_refuse_names_of_people_with_line_ends(score: Score) -> None:
    for name, text in NAMES.items():
        if text.isprintable():
            assert settings_with(people={text: PERSON}).recipients(text) == [PERSON]
            score.met["taken as it is"] += 1
        else:
            with pytest.raises(RunError, match="settings_invalid"):
                settings_with(people={text: PERSON})
            score.met[f"refused: {name}"] += 1
        score.tried["names"] += 1
    score.expect(["taken as it is", *(f"refused: {name}" for name, text in NAMES.items() if not text.isprintable())])


Request = dict[str, Any]
WAYS: dict[str, Callable[[str], Request]] = {
    "the parameter notify": lambda text: {"notify": text},
    "the person, by a name that looks like an address": lambda text: {"trigger": "manual", "triggered_by": text},
    "owners in settings of before they were checked": lambda text: {"settings": None},
}
"""How an address comes to a run without the settings having looked at it."""


@pytest.mark.parametrize("way", WAYS)
def test_an_address_that_is_more_than_one_gets_no_mail(
    store: Store, organisation: Simulator, mailbox: Mailbox, score: Score, way: str
) -> None:
    """Whoever else is to be told is told, and the task fails for good, saying what to correct and no address."""
    colliding(organisation)
    save(settings_with())
    for name, text in ADDRESSES.items():
        if WAYS[way](text).get("settings", ...) is None:
            store.execute("UPDATE contact_store.sync_settings SET settings = settings || %s", [owners(text)])
        request = {key: value for key, value in WAYS[way](text).items() if key != "settings"}
        check_refused(sync(**request), mailbox, told=1 if way.startswith("the person") else 2)
        score.met[name] += 1
        score.tried["addresses"] += 1
    score.expect(ADDRESSES)


def owners(text: str) -> str:
    return json.dumps({"owners": [OWNER, text]})


def check_refused(concluded: RunReport, mailbox: Mailbox, told: int) -> None:
    already = len(mailbox.messages)
    if told == 1:  # a name that is no address is nobody's: the owners are told
        send_report(concluded)
    else:
        with pytest.raises(AirflowFailException, match="The report went to 1 of 2 recipients") as failure:
            send_report(concluded)
        assert EVIL not in str(failure.value)
    assert len(mailbox.messages) == already + 1
    subject = render.subject(concluded.report)
    assert subject in {*SUBJECTS, SETTINGS_INVALID}
    headers_are_ours(mailbox.messages[-1], mailbox.recipients[-1], [OWNER], subject)


SETTINGS_INVALID = "Salesforce contacts sync failed: accounts and contacts were not synced (1 error)"


@pytest.mark.parametrize("name", ["CR LF", "LF", "CR"])
def test_a_sender_with_a_line_end_sends_nothing(
    store: Store, organisation: Simulator, mailbox: Mailbox, score: Score, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    colliding(organisation)
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": ADDRESSES[name], "timeout": 5}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": mailbox.port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    with pytest.raises(AirflowFailException, match="from_email") as failure:
        send_report(sync(settings_with()))
    assert EVIL not in str(failure.value)
    assert mailbox.messages == []
    score.tried["senders"] += 1


# ------------------------------------------------------------------------------------- what Salesforce says of itself


def test_what_salesforce_says_about_a_failure_stays_text(
    store: Store, organisation: Simulator, mailbox: Mailbox, score: Score
) -> None:
    """A list view's label and filter are people's, too; a refusal quotes the filter."""
    control = organisation.control
    view = control.create_list_view(label=f"x\r\nBcc: {EVIL}", where="LastName = 'x'")
    mapping = {"mapping": lines(Email="email")}
    settings = settings_with(contacts=mapping | {"source": {"list_view": view}})
    subject = "Salesforce contacts sync failed: contacts were not synced (1 error)"
    elements = []
    for field in ("Harmless__c", "Nothing__c"):
        text = "x" if field == "Harmless__c" else f'</div><script>alert(1)</script>" {EVIL}'
        control.update_list_view(id=view, where=f"{field} = '{text}'")
        send_report(sync(settings))
        message = mailbox.messages[-1]
        headers_are_ours(message, mailbox.recipients[-1], [OWNER], subject)
        assert EVIL not in body(message, "plain") + body(message, "html")
        assert field in body(message, "plain")
        elements.append(Page(body(message, "html")).elements)
        score.tried["failures"] += 1
    assert len({len(each) for each in elements}) == 1
