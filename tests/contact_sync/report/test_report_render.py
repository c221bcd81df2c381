"""What the e-mail says, in HTML and in plain text, and that nothing a person typed can change it."""

import re
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest

from include.contact_sync.errors import CATALOGUE
from include.contact_sync.report.model import Report
from include.contact_sync.report.render import render_html, render_text, shown, subject
from tests.contact_sync.report.report_samples import COUNTS, contact_id, error, report_of


class _Page(HTMLParser):
    """What a reader sees of a page, what it links to, and which elements it is made of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str] = []
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self._in_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self._in_style = tag == "style"
        self.links += [value for name, value in attrs if name == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.texts.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())


ELEMENTS = {
    *[
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "div",
        "h1",
        "h2",
        "p",
        "b",
        "a",
        "table",
        "tr",
        "td",
        "th",
        "span",
        "bdi",
    ]
}
ATTRIBUTES = {
    *["lang", "charset", "name", "content", "class", "style", "href", "align", "role", "cellpadding", "cellspacing"]
}


def both(report: Report) -> tuple[str, str]:
    """The words of the HTML and of the plain text, each on one line."""
    return _Page(render_html(report)).words, " ".join(render_text(report).split())


def taken(number: int, **cells: object) -> dict:
    holder = {
        "contact_id": 100 + number,
        "external_id": contact_id(900 + number),
        "source": "email",
        "handle": "a@b.example",
    }
    return error(
        "email_taken",
        contact_id(number),
        **{"salesforce_field": "Email", "value": "A@b.example", "holders": [holder]} | cells,
    )


def test_rule_8_1_the_mail_says_what_was_synced_who_triggered_it_and_how_long_it_took() -> None:
    for words in both(report_of(taken(1))):
        assert "Accounts and contacts were synced" in words
        assert "by hand (ann)" in words
        assert "2026-11-23 02:00 UTC, took 3 min 12 s" in words
        assert "123,456" in words
        assert "version 3" in words
        assert "12 (manual__1)" in words


def test_rule_6_4_every_outcome_is_counted_for_each_part() -> None:
    text = render_text(report_of(taken(1)))
    for outcome, number in COUNTS.items():
        contacts = "123,456" if outcome == "read" else str(number)
        assert f"{outcome}: accounts {number}, contacts {contacts}\n" in text


@pytest.mark.parametrize(
    ("trigger", "triggered_by", "said"),
    [
        ("schedule", None, "by schedule"),
        ("manual", None, "by hand"),
        ("manual", "Ann <b>", "by hand (Ann <b>)"),
        ("backfill", "ann", "as a backfill (ann)"),
    ],
)
def test_the_mail_says_who_or_what_triggered_the_run(trigger: str, triggered_by: str | None, said: str) -> None:
    for words in both(report_of(taken(1), trigger=trigger, triggered_by=triggered_by)):
        assert f"{said} Started" in words.replace("Started:", "Started")


def test_rule_1_3_a_backfill_names_its_window_in_utc() -> None:
    start = datetime(2026, 11, 22, 3, 0, tzinfo=timezone(timedelta(hours=1)))
    window = (start, datetime(2026, 11, 23, 2, 0, tzinfo=UTC))
    for words in both(report_of(taken(1), window=window, trigger="backfill")):
        assert "contacts last changed from 2026-11-22 02:00 UTC until before 2026-11-23 02:00 UTC" in words


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59.6, "1 min 0 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")]
)
def test_the_time_a_run_took_is_said_in_two_units(seconds: float, said: str) -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    report = report_of(taken(1), started_at=start, ended_at=start + timedelta(seconds=seconds))
    assert f"took {said}\n" in render_text(report)


def test_rule_8_1_each_kind_has_its_counts_how_to_resolve_and_its_records() -> None:
    report = report_of(taken(1), taken(2, status="still_open"), error("no_handle", contact_id(3), status="resolved"))
    html, text = both(report)
    for words in (html, text):
        assert "2 errors open (1 new, 1 still open), 1 resolved" in words
        assert CATALOGUE["email_taken"].shown_as in words
        assert CATALOGUE["no_handle"].shown_as in words
        assert f"How to resolve: {CATALOGUE['email_taken'].how_to_resolve}" in words
        assert CATALOGUE["no_handle"].how_to_resolve not in words
        assert "Email: A@b.example" in words
        assert f"email a@b.example belongs to contact 101, linked to {contact_id(901)}" in words
    assert f"{contact_id(1)} (new)" in text
    assert f"{contact_id(2)} (still open)" in text


def test_rule_8_1_records_their_holders_and_the_task_log_are_linked() -> None:
    report = report_of(taken(1))
    page = "https://acme.my.salesforce.com/lightning/r/Contact"
    links = ["http://airflow.example/dags/x?a=1&b=2", f"{page}/{contact_id(1)}/view", f"{page}/{contact_id(901)}/view"]
    assert _Page(render_html(report)).links == links
    assert [line.strip() for line in render_text(report).splitlines() if "://" in line] == links


def test_rule_8_1_of_25_records_20_are_shown_and_the_rest_is_counted() -> None:
    report = report_of(*(taken(number) for number in range(25)))
    for words in both(report):
        assert contact_id(19) in words
        assert contact_id(20) not in words
        assert "and 5 more, see the attached file" in words
    assert "and 5 more" not in render_text(report_of(*(taken(number) for number in range(20))))


def test_a_record_held_by_many_shows_the_first_five_holders_and_counts_the_rest() -> None:
    holders = [
        {"contact_id": number, "external_id": None, "source": "email", "handle": "a@b.example"} for number in range(7)
    ]
    for words in both(report_of(taken(1, holders=holders))):
        assert "belongs to contact 4, not linked to Salesforce" in words
        assert "contact 5" not in words
        assert "and 2 more, see the attached file" in words


def test_a_holder_that_gives_no_handle_is_named_all_the_same() -> None:
    for words in both(report_of(taken(1, holders=[{"contact_id": 7}]))):
        assert "Held by contact 7, not linked to Salesforce" in words


def test_rule_8_3_the_advice_stands_in_the_mail() -> None:
    inside = {"account": "0015g00000A0001AAA", "holder_accounts": ["0015g00000A0001AAA"]}
    for words in both(report_of(*(taken(number, **inside) for number in range(3)))):
        assert "3 of the 3 contacts whose Email was taken share it" in words
        assert "map Email to a custom field." in words


def test_rule_8_2_a_failed_run_says_that_contacts_were_not_synced_and_why() -> None:
    report = report_of(
        error("accounts_sync_failed"),
        error("list_view_not_found", part="accounts", detail="Account list view 00B"),
        state="failed",
        accounts=None,
        contacts=None,
    )
    html, text = both(report)
    for words in (html, text):
        assert "Accounts and contacts were not synced" in words
        assert "Contacts were not synced because accounts sync failed" in words
        assert "Salesforce list view not found: Account list view 00B" in words
        assert "What was synced" not in words
    assert subject(report) == "Salesforce contacts sync failed: accounts and contacts were not synced (2 errors)"


def test_rule_8_2_a_failed_contacts_part_keeps_the_counts_of_the_accounts() -> None:
    report = report_of(error("too_many_contacts", detail="1,000,001"), state="failed", contacts=None)
    for words in both(report):
        assert "Contacts were not synced" in words
        assert "Accounts and contacts were not synced" not in words
    assert "read: accounts 10\n" in render_text(report)


def test_rule_1_4_a_part_that_was_not_asked_for_is_not_missed() -> None:
    report = report_of(error("login_failed"), state="failed", accounts=None, contacts=None, parts=("contacts",))
    assert subject(report) == "Salesforce contacts sync failed: contacts were not synced (1 error)"


def test_rule_7_a_retried_error_says_that_the_run_gave_up() -> None:
    report = report_of(error("salesforce_unavailable", detail="503"), state="failed", contacts=None)
    for words in both(report):
        assert "Salesforce did not answer, or gave up a query: 503. The run tried again and gave up." in words


def test_rule_8_2_a_run_that_failed_for_no_catalogued_reason_points_to_the_task_log() -> None:
    for words in both(report_of(state="failed")):
        assert "The run failed" in words
        assert "The task log says why." in words


def test_rule_3_3_a_missing_field_does_not_count_as_the_reason_of_a_failure() -> None:
    report = report_of(error("field_not_found", salesforce_field="Twitter__c"), state="failed", contacts=None)
    for words in both(report):
        assert "Why - The task log says why." in words or "Why The task log says why." in words
        assert "Twitter__c" in words


def test_a_dry_run_says_that_nothing_was_written() -> None:
    report = report_of(taken(1), dry_run=True)
    for words in both(report):
        assert "Nothing was written: this was a dry run." in words
        assert "What would be synced" in words
        assert "were synced" not in words.replace("were not synced", "")
    assert subject(report).startswith("Dry run: Salesforce contacts sync: 1 error open")


def test_a_run_whose_errors_were_all_resolved_says_so() -> None:
    report = report_of(error("no_handle", contact_id(1), status="resolved"))
    assert subject(report) == "Salesforce contacts sync: no error open, 1 resolved"


def test_html_and_plain_text_say_the_same() -> None:
    report = report_of(
        *(taken(number, status="new" if number % 2 else "still_open") for number in range(30)),
        error(
            "invalid_value", contact_id(50), salesforce_field="Birthdate", value="31.02.", detail="datetime expected"
        ),
        error("domain_taken", "0015g00000A0001AAA", salesforce_field="Website", value="acme.example"),
        error("no_handle", contact_id(60), status="resolved"),
    )
    html = set(_Page(render_html(report)).words.replace(":", " ").replace(",", " ").split())
    text = {word for word in render_text(report).replace(":", " ").replace(",", " ").split() if "//" not in word}
    layout = {"-", "==", "https", "http"}
    assert {word.strip("()") for word in html - layout} == {word.strip("()") for word in text - layout}


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><b>Resolved</b>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
    "javascript:alert(1)",
    "o'hara",
    "محمد العلي",
    "👩‍👩‍👧 emoji 😀",
    "\u202egnp.exe",
    "a\r\nBcc: eve@example.com\r\n\r\nsecond part",
    "\x07\x1b[31mred",
    "x" * 32_000,
]


@pytest.mark.parametrize("value", HOSTILE)
def test_rule_3_7_what_people_typed_is_shown_and_changes_nothing_else(value: str) -> None:
    holder = {"contact_id": 1, "external_id": value, "source": "custom", "handle": value}
    report = report_of(
        taken(1, value=value, detail=value, salesforce_field=value, holders=[holder]),
        triggered_by=value,
        dag_run_id=value,
    )
    page = _Page(render_html(report))
    assert page.elements <= ELEMENTS
    assert page.attributes <= ATTRIBUTES
    assert all(
        link.startswith(("https://acme.my.salesforce.com/lightning/r/", "http://airflow.example/"))
        for link in page.links
    )
    if len(value) < 1000:
        for words in both(report):
            assert " ".join(shown(value).split()) in words


@pytest.mark.parametrize("value", HOSTILE)
def test_the_subject_is_one_line_and_holds_nothing_that_people_typed(value: str) -> None:
    report = report_of(taken(1, value=value, detail=value), triggered_by=value, dag_run_id=value)
    assert subject(report) == "Salesforce contacts sync: 1 error open (1 new, 0 still open)"


def test_a_value_with_line_breaks_stays_on_its_own_line_of_the_plain_text() -> None:
    report = report_of(taken(1, value="a\n== Errors ==\r\nb\u2028c\x0bd"))
    assert "\n  Email: a ↵ == Errors == ↵ b ↵ c ↵ d\n" in render_text(report)


def test_marks_that_turn_the_direction_of_text_are_not_shown() -> None:
    assert shown("\u202eabc\u2066d\u2069") == "abcd"
    assert shown("مرحبا") == "مرحبا"


def test_a_long_value_is_cut_and_says_how_long_it_is() -> None:
    html = render_html(report_of(taken(1, value="é" * 32_000)))
    assert f"{'é' * 160}… (32,000 characters)" in html
    assert len(html) < 20_000


@pytest.mark.parametrize("log_url", [None, "", "javascript:alert(1)"])
def test_only_a_web_address_becomes_the_link_to_the_task_log(log_url: str | None) -> None:
    report = report_of(taken(1), log_url=log_url)
    assert "task log" not in render_html(report)
    assert "task log" not in render_text(report)


def test_without_a_salesforce_address_records_are_named_without_a_link() -> None:
    html = render_html(report_of(taken(1), salesforce_url=None))
    assert contact_id(1) in html
    assert "lightning" not in html


def test_the_page_is_one_column_for_phones_follows_the_dark_mode_and_loads_nothing() -> None:
    html = render_html(report_of(taken(1)))
    assert "max-width:640px" in html
    assert "width=device-width" in html
    assert "prefers-color-scheme: dark" in html
    assert "overflow-wrap:anywhere" in html
    assert not re.search(r"<(img|script|link|iframe)|url\(|@import", html)
    assert not re.search(r"[^-]width:\s*[1-9]\d{2,}px", html), "a fixed width would overflow a phone"


def test_a_mail_of_many_full_sections_stays_below_what_mail_programs_cut_off() -> None:
    codes = ["no_handle", "email_taken", "phone_taken", "invalid_value"]
    html = render_html(report_of(*(taken(number) | {"code": code} for code in codes for number in range(30))))
    assert len(html.encode()) < 102_000
