"""The e-mail as a mail server receives it from the operator: sent once, whole, and without a trace in the logs."""

import asyncio
import json
import smtplib
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from io import BytesIO
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from airflow.sdk.exceptions import AirflowFailException
from structlog.testing import capture_logs

from include.contact_sync.errors import RunRefused, StoreUnavailable
from include.contact_sync.report.csv_file import render_csv
from include.contact_sync.report.operator import ErrorReportOperator, MailMayBeOut, MailNotSent, MailToSend
from include.contact_sync.report.render import render_html, render_text, subject
from tests.contact_sync.report.report_samples import contact_id, error, report_of

ANN, BOB = "ann@example.com", "bob@example.com"


@dataclass
class MailServer:
    """A mail server on loopback: keeps what it accepted, and refuses what it was told to.

    `refusals` are replies to the next messages, one each; `refused_addresses` maps an address to its reply;
    `odd_answers` are replies to the next messages, which it takes nevertheless, one each (None: it breaks off instead);
    `hangs_up_at` is a command on which it breaks off.
    """

    port: int = 0
    accepted: list[Envelope] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    refused_addresses: dict[str, str] = field(default_factory=dict)
    odd_answers: list[str | None] = field(default_factory=list)
    hangs_up_at: str = ""
    logins: list[LoginPassword] = field(default_factory=list)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.hangs_up_at == "MAIL":
            server.transport.abort()
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.hangs_up_at == "RCPT":
            server.transport.abort()
        if reply := self.refused_addresses.get(address):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        self.accepted.append(envelope)
        answer = self.odd_answers.pop(0) if self.odd_answers else "250 accepted"
        if answer is None:
            server.transport.abort()
            return ""
        if answer == "late":
            await asyncio.sleep(2)
        return answer

    def check_login(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: object
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        self.logins.append(login)
        return AuthResult(success=login.password == b"secret")

    def only_message(self) -> EmailMessage:
        """The only message that was accepted."""
        (envelope,) = self.accepted
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        return message


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture
def server() -> Iterator[MailServer]:
    mail_server = MailServer(port=free_port())
    controller = Controller(
        mail_server,
        hostname="127.0.0.1",
        port=mail_server.port,
        data_size_limit=0,
        auth_require_tls=False,
        authenticator=mail_server.check_login,
    )
    controller.start()
    yield mail_server
    controller.stop()


def connect_to(port: int, monkeypatch: pytest.MonkeyPatch, login: str | None = None, **extra: object) -> None:
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": port,
        "extra": {
            "disable_ssl": True,
            "disable_tls": True,
            "from_email": "Sync Ü <sync@example.com>",
            "timeout": 5,
            **extra,
        },
        **({"login": login, "password": "secret"} if login else {}),
    }
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))


@pytest.fixture(autouse=True)
def smtp_default(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(server.port, monkeypatch)


@dataclass
class Outbox:
    """What stands behind the operator in the flow: a mail, until it is marked as sent."""

    mail_text: str = "Grüße, 你好, مرحبا, 👩‍👩‍👧\n"
    html: str = "<p>Grüße, 你好, مرحبا, 👩‍👩‍👧</p>"
    subject: str = "Salesforce contacts sync: 1 error open (1 new, 0 still open)"
    csv: bytes = '\ufeff"Naïve","\'+49"\r\n'.encode()
    to: tuple[str, ...] = (ANN, BOB)
    key: str = "manual__1"
    marked: int = 0
    cannot_mark: Exception | None = None
    handed_over_in: int | None = None
    cannot_hand_over: Exception | None = None
    cannot_refuse: Exception | None = None

    def load(self, context: dict[str, Any]) -> MailToSend | None:
        if self.marked:
            return None
        tries = context["tries"]
        return MailToSend(
            list(self.to),
            self.subject,
            self.html,
            self.mail_text,
            self.csv,
            key=self.key,
            may_be_out=self.handed_over_in == tries,
            on_handing_over=lambda: self.hand_over(tries),
            on_refused=self.refuse,
            on_accepted=self.mark,
        )

    def hand_over(self, tries: int) -> None:
        if self.cannot_hand_over:
            raise self.cannot_hand_over
        self.handed_over_in = tries

    def refuse(self) -> None:
        if self.cannot_refuse:
            raise self.cannot_refuse
        self.handed_over_in = None

    def mark(self) -> None:
        if self.cannot_mark:
            raise self.cannot_mark
        self.marked += 1


def send(outbox: Outbox, tries: int = 3) -> None:
    """`tries` grows when a person clears the task."""
    operator = ErrorReportOperator(task_id="report_errors", load_report=outbox.load)
    operator.execute({"run_id": "manual__1", "tries": tries})


def parts(message: EmailMessage) -> tuple[str, str, list[EmailMessage]]:
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    return _unix(text.get_content()), _unix(html.get_content()), list(message.iter_attachments())


def _unix(text: str) -> str:
    """Mail ends its lines with CR LF."""
    return text.replace("\r\n", "\n")


def test_rule_8_1_one_message_holds_text_html_and_the_list_of_errors(server: MailServer) -> None:
    outbox = Outbox()
    send(outbox)
    message = server.only_message()
    text, html, attachments = parts(message)
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "text/csv",
    ]
    assert text == outbox.mail_text
    assert html.rstrip("\n") == outbox.html
    assert attachments[0].get_payload(decode=True) == outbox.csv
    assert attachments[0].get_filename() == "sync-errors.csv"
    assert outbox.marked == 1


def test_the_headers_name_sender_recipients_subject_and_time(server: MailServer) -> None:
    send(Outbox())
    message = server.only_message()
    assert message["From"] == "Sync Ü <sync@example.com>"
    assert message["To"] == f"{ANN}, {BOB}"
    assert message["Subject"] == "Salesforce contacts sync: 1 error open (1 new, 0 still open)"
    assert message["Date"].datetime is not None
    assert message["Auto-Submitted"] == "auto-generated"
    assert server.accepted[0].mail_from == "sync@example.com"
    assert server.accepted[0].rcpt_tos == [ANN, BOB]


def test_what_goes_over_the_line_is_seven_bit_in_short_lines(server: MailServer) -> None:
    send(Outbox(mail_text="é" * 32_000 + "\n.\n", html="<p>" + "x" * 32_000 + "</p>"))
    content = server.accepted[0].content
    assert isinstance(content, bytes)
    assert content.isascii()
    assert max(map(len, content.splitlines())) <= 998
    text, html, _ = parts(server.only_message())
    assert text == "é" * 32_000 + "\n.\n"
    assert "x" * 32_000 in html


HOSTILE = [
    "<script>alert(1)</script>",
    "a\r\nBcc: eve@example.com\r\n\r\nsecond",
    "=HYPERLINK(1)",
    "\u202emoc.elpmaxe",
    "محمد العلي",
    "👩‍👩‍👧",
    "z" * 32_000,
]


@pytest.mark.parametrize("value", HOSTILE)
def test_rule_8_1_a_whole_report_arrives_whatever_people_typed(server: MailServer, value: str) -> None:
    rows = [error("email_taken", contact_id(n), salesforce_field="Email", value=value, detail=value) for n in range(30)]
    report = report_of(*rows, triggered_by=value, dag_run_id=value)
    send(Outbox(render_text(report), render_html(report), subject(report), render_csv(report)))
    text, html, attachments = parts(server.only_message())
    assert (text, html.rstrip("\n")) == (render_text(report), render_html(report).rstrip("\n"))
    assert attachments[0].get_payload(decode=True) == render_csv(report)
    assert server.only_message().keys() == [
        "Subject",
        "From",
        "To",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
        *(key for key in server.only_message().keys() if key.startswith("X-")),  # ruff: ignore[in-dict-keys]  a message is no dict
    ]


def test_a_line_break_in_the_subject_cannot_add_a_header(server: MailServer) -> None:
    send(Outbox(subject="1 error\r\nBcc: eve@example.com"))
    assert server.only_message()["Subject"] == "1 error Bcc: eve@example.com"
    assert server.only_message()["Bcc"] is None
    assert server.accepted[0].rcpt_tos == [ANN, BOB]


def test_a_long_list_of_errors_is_attached_as_a_zip_file(server: MailServer) -> None:
    content = b'"row"\r\n' * 500_000
    send(Outbox(csv=content))
    attachment = parts(server.only_message())[2][0]
    assert (attachment.get_content_type(), attachment.get_filename()) == ("application/zip", "sync-errors.csv.zip")
    with zipfile.ZipFile(BytesIO(attachment.get_payload(decode=True))) as archive:
        assert archive.read("sync-errors.csv") == content


def test_rule_8_1_with_nothing_to_report_nothing_is_sent_and_the_task_succeeds(server: MailServer) -> None:
    with capture_logs() as logged:
        send(Outbox(marked=1))
    assert server.accepted == []
    assert any("no e-mail is sent" in entry["event"] for entry in logged)


@pytest.mark.parametrize("reply", ["451 try again later", "554 no"])
def test_after_a_refusal_the_next_try_sends_exactly_one_mail(server: MailServer, reply: str) -> None:
    server.refusals = [reply]
    outbox = Outbox()
    with pytest.raises(MailNotSent, match=f"The mail server refused the report: {reply}"):
        send(outbox)
    assert (server.accepted, outbox.handed_over_in, outbox.marked) == ([], None, 0)
    send(outbox)
    send(outbox)
    assert (len(server.accepted), outbox.marked) == (1, 1)


def test_when_every_recipient_is_refused_nothing_is_sent_and_nothing_marked(server: MailServer) -> None:
    server.refused_addresses = {ANN: f"550 <{ANN}> unknown", BOB: "450 busy"}
    outbox = Outbox()
    with pytest.raises(MailNotSent, match="refused every recipient \\(450 busy; 550 <address> unknown\\)"):
        send(outbox)
    assert (server.accepted, outbox.handed_over_in, outbox.marked) == ([], None, 0)


def test_when_some_recipients_are_refused_the_others_get_one_mail_and_the_task_says_so(server: MailServer) -> None:
    server.refused_addresses = {ANN: f"550 <{ANN}> unknown"}
    outbox = Outbox()
    with pytest.raises(
        AirflowFailException, match="went to 1 of 2 recipients, 1 were refused \\(550 <address> unknown\\)"
    ):
        send(outbox)
    send(outbox)
    assert [envelope.rcpt_tos for envelope in server.accepted] == [[BOB]]


@pytest.mark.parametrize(
    "unusable", ["no-at-sign", "a@b@c", "", "a@x.example\nBcc: eve@example.com", "a@x.example, b@x.example"]
)
def test_an_unusable_address_does_not_keep_the_mail_from_the_others(server: MailServer, unusable: str) -> None:
    outbox = Outbox(to=(unusable, BOB))
    with pytest.raises(
        AirflowFailException, match="went to 1 of 2 recipients, 1 were refused \\(not an e-mail address\\)"
    ):
        send(outbox)
    assert [envelope.rcpt_tos for envelope in server.accepted] == [[BOB]]
    assert outbox.marked == 1


@pytest.mark.parametrize(("to", "said"), [((), "has no recipient"), (("nobody",), "None of the 1 recipients")])
def test_a_report_for_nobody_is_a_failure_that_no_retry_repeats(to: tuple[str, ...], said: str) -> None:
    with pytest.raises(AirflowFailException, match=said):
        send(Outbox(to=to))


def test_an_address_that_stands_there_twice_gets_one_copy(server: MailServer) -> None:
    send(Outbox(to=(ANN, ANN)))
    assert server.accepted[0].rcpt_tos == [ANN]


def test_when_the_mail_is_out_but_cannot_be_marked_no_retry_sends_it_again(server: MailServer) -> None:
    outbox = Outbox(cannot_mark=OSError("the store is gone"))
    with pytest.raises(AirflowFailException, match="was sent, but that could not be noted; mark this task as success"):
        send(outbox)
    with pytest.raises(MailMayBeOut):
        send(outbox)
    assert len(server.accepted) == 1


def test_when_a_refusal_cannot_be_marked_it_is_told_and_a_person_decides(server: MailServer) -> None:
    server.refusals = ["451 greylisted"]
    outbox = Outbox(cannot_refuse=StoreUnavailable("the store is gone"))
    with pytest.raises(
        AirflowFailException, match=r"refused the report: 451 greylisted\. That could not be noted .*gone"
    ):
        send(outbox)
    with pytest.raises(
        MailMayBeOut, match="an earlier try of this task ended before the mail server's answer was noted"
    ):
        send(outbox)
    send(outbox, tries=4)
    assert (len(server.accepted), outbox.marked) == (1, 1)


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
def test_where_the_connection_breaks_before_the_text_the_next_try_sends_the_mail(
    server: MailServer, command: str
) -> None:
    server.hangs_up_at = command
    outbox = Outbox()
    with pytest.raises(MailNotSent, match="could not be used: SMTPServerDisconnected"):
        send(outbox)
    assert outbox.handed_over_in is None
    server.hangs_up_at = ""
    send(outbox)
    assert (len(server.accepted), outbox.marked) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    ["251 queued", "200 ok", "2.0.0 OK queued", "OK", "250 " + "x" * 9_000, "354 go on", "600 what", None, "late"],
)
def test_where_the_answer_is_neither_yes_nor_no_no_try_sends_the_mail_again(
    server: MailServer, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    connect_to(server.port, monkeypatch, timeout=1)
    server.odd_answers = [answer]
    outbox = Outbox()
    with pytest.raises(MailMayBeOut, match="timed out" if answer == "late" else "gave no clear answer"):
        send(outbox)
    with pytest.raises(MailMayBeOut, match="an earlier try"):
        send(outbox)
    assert (len(server.accepted), outbox.marked) == (1, 0)


def test_a_report_that_may_be_out_is_sent_again_only_by_who_clears_the_task(server: MailServer) -> None:
    """And the second copy carries the same id."""
    server.odd_answers = [None]
    outbox = Outbox()
    with pytest.raises(MailMayBeOut, match="may have been sent: the mail server gave no clear answer"):
        send(outbox)
    with pytest.raises(MailMayBeOut, match="an earlier try of this task ended before") as said:
        send(outbox)
    assert server.only_message()["Message-ID"] in str(said.value)
    send(outbox, tries=4)
    first, second = (message_from_bytes(envelope.content, policy=default) for envelope in server.accepted)  # type: ignore[arg-type]
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Message-ID"].endswith("@example.com>")


@pytest.mark.parametrize("failure", [StoreUnavailable("gone"), RunRefused("another try was quicker")])
def test_a_report_is_not_handed_over_before_that_is_noted(server: MailServer, failure: Exception) -> None:
    with pytest.raises(type(failure)):
        send(Outbox(cannot_hand_over=failure))
    assert server.accepted == []


def test_different_reports_have_different_ids(server: MailServer) -> None:
    for key in ("one", "other"):
        send(Outbox(key=key))
    first, second = (message_from_bytes(envelope.content, policy=default) for envelope in server.accepted)  # type: ignore[arg-type]
    assert first["Message-ID"] != second["Message-ID"]


def test_an_address_that_the_server_cannot_take_is_no_doubt(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtplib.SMTP, "has_extn", lambda self, name: False)  # no SMTPUTF8
    outbox = Outbox(to=("ann@bücher.example",))
    with pytest.raises(MailNotSent, match="SMTPNotSupportedError"):
        send(outbox)
    assert (server.accepted, outbox.handed_over_in) == ([], None)


def test_the_login_of_the_connection_is_used(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(server.port, monkeypatch, login="sync")
    send(Outbox())
    assert server.logins == [LoginPassword(b"sync", b"secret")]
    assert len(server.accepted) == 1


def test_the_transport_security_of_the_connection_is_used(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(server.port, monkeypatch, disable_tls=False)
    with pytest.raises(MailNotSent, match="SMTPNotSupportedError: STARTTLS extension not supported"):
        send(Outbox())
    assert server.accepted == []


def test_a_connection_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SMTP_DEFAULT")
    with pytest.raises(AirflowFailException, match="connection 'smtp_default' does not exist"):
        send(Outbox())


def test_a_connection_without_a_sender_is_named(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(server.port, monkeypatch, from_email=None)
    with pytest.raises(AirflowFailException, match="connection 'smtp_default' has no from_email"):
        send(Outbox())


def test_a_sender_of_several_lines_sends_nothing(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(server.port, monkeypatch, from_email="sync@example.com\r\nBcc: eve@example.com")
    with pytest.raises(
        AirflowFailException, match="from_email of the Airflow connection 'smtp_default' is not one line"
    ):
        send(Outbox())
    assert server.accepted == []


def test_a_server_that_is_not_there_fails_the_try(monkeypatch: pytest.MonkeyPatch) -> None:
    connect_to(free_port(), monkeypatch)
    with pytest.raises(MailNotSent, match="could not be used: ConnectionRefusedError"):
        send(Outbox())


def test_rule_8_4_logs_and_exceptions_name_no_address(server: MailServer) -> None:
    with capture_logs() as logged:
        send(Outbox())
        server.refused_addresses = {ANN: f"550 {ANN} unknown", BOB: f"550 <{BOB}>"}
        with pytest.raises(MailNotSent) as refusal:
            send(Outbox())
    assert any("went to 2 of 2 recipients" in entry["event"] for entry in logged)
    assert "@example" not in f"{logged} {refusal.value} {Outbox().load({'tries': 3})!r}"
    assert refusal.value.__suppress_context__, "smtplib's exception quotes the addresses"


def test_a_dag_file_that_imports_the_operator_loads_neither_pandas_nor_the_report() -> None:
    code = (
        "import sys; import include.contact_sync.report.operator; "
        "heavy = {'pandas', 'pyarrow', 'include.contact_sync.report.model', 'include.contact_sync.report.render'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "[]"
