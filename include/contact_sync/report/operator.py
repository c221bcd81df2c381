"""Mails a run's report through the Airflow connection `smtp_default` (rules 8.1 and 8.4).

The operator asks a callable for the mail when the task runs, and sends it once: one message with plain text, HTML and
the attached list of errors. What the mail says is decided in `model` and `render`. DAG files import this module, so it
imports neither pandas nor the flow; logs and exceptions hold counts and the mail server's codes, never an address.
"""

import io
import re
import smtplib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any, Self
from uuid import NAMESPACE_URL, uuid5

from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.providers.smtp.operators.smtp import EmailOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

ZIPPED_FROM_BYTES = 2_000_000
"""A longer list of errors is attached as a zip file, a tenth as large; mail servers commonly refuse more than 10 MB."""

_SEVEN_BIT = SMTP.clone(cte_type="7bit")  # every server takes it, whatever it says about 8BITMIME

Context = dict[str, Any]


@dataclass(frozen=True)
class MailToSend:
    """A rendered report.

    Attributes:
        key: the Message-ID follows from it; it is another one for every report, the same for each copy of one.
        may_be_out: an earlier try called `on_handing_over`, and neither of the others.
        on_handing_over: called just before the mail server is given the text; what it raises keeps the mail back.
        on_refused: called when the server refused the text.
        on_accepted: called when the server took it.
    """

    to: list[str] = field(repr=False)
    subject: str
    html: str = field(repr=False)
    text: str = field(repr=False)
    csv: bytes = field(repr=False)
    key: str
    may_be_out: bool
    on_handing_over: Callable[[], None] = field(repr=False)
    on_refused: Callable[[], None] = field(repr=False)
    on_accepted: Callable[[], None] = field(repr=False)
    csv_name: str = "sync-errors.csv"


class MailNotSent(AirflowException):  # type: ignore[misc]
    """Nobody got the mail; the same task may send it when it is tried again."""


class MailMayBeOut(AirflowFailException):  # type: ignore[misc]
    """Nobody knows whether somebody got the mail: a try ended between giving it to the server and noting the answer.

    SMTP has no means to ask afterwards (RFC 1047).
    """

    def __init__(self, message: EmailMessage, what_happened: str) -> None:
        super().__init__(
            f"The report may have been sent: {what_happened}. It is not sent again by itself. Ask the recipients, or look "
            f"for Message-ID {message['Message-ID']} in the mail server's log. If it has arrived, mark this task as "
            "success; if not, clear it, and the report is sent"
        )


class ReportMailHook(SmtpHook):  # type: ignore[misc]
    """The provider's connection (TLS, login, time limit), sending messages that were built elsewhere.

    `SmtpHook.send_email_smtp` builds HTML only, sends again after any failure, and drops what the server said about
    single recipients.
    """

    def __enter__(self) -> Self:
        try:
            super().__enter__()
        except (OSError, AirflowException):
            if self._smtp_client:  # connected, but TLS or the login failed: the provider leaves it open
                self._smtp_client.close()
            raise
        return self

    def send(
        self, message: EmailMessage, recipients: list[str], on_handing_over: Callable[[], None]
    ) -> dict[str, tuple[int, bytes]]:
        """Hand over the message once. Returns the recipients that were refused; it went to all others.

        Raises:
            smtplib.SMTPDataError: the server refused the text.
            smtplib.SMTPException, OSError: it did not come to the text. Either way the mail went to nobody.
            MailMayBeOut: the server had the text, and gave no answer, or one that is neither yes nor no (RFC 5321, 4.2).
        """
        client, was_handed_over = self._smtp_client, False

        def data(text: bytes) -> tuple[int, bytes]:
            nonlocal was_handed_over
            on_handing_over()
            was_handed_over = True
            return type(client).data(client, text)

        client.data = data
        try:
            return client.send_message(message, to_addrs=recipients)
        except OSError as failure:  # smtplib's exceptions are OSErrors
            if not was_handed_over or _is_a_no(failure):
                raise
            said = f"{type(failure).__name__}: {_mask(str(failure))}"
            raise MailMayBeOut(message, f"the mail server gave no clear answer ({said})") from None


class ErrorReportOperator(EmailOperator):  # type: ignore[misc]
    """Sends the report that `load_report` gives for the running task, or nothing where it gives None.

    `load_report` gives None too when the report was sent before, so a task that is tried again never sends a second
    mail. A refusal by the server fails the task, which may be tried again; where only some of the recipients were
    refused it fails for good, since the others have their mail. So it does where a try ended before the server's answer
    was known: only a person, who clears the task, sends that report again.
    """

    template_fields = ("conn_id",)

    def __init__(self, *, load_report: Callable[[Context], MailToSend | None], **kwargs: Any) -> None:
        super().__init__(to=[], **kwargs)
        self.load_report = load_report

    def execute(self, context: Context) -> None:
        mail = self.load_report(context)
        if mail is None:
            self.log.info("Nothing to report, or reported before: no e-mail is sent")
            return
        if not mail.to:
            raise AirflowFailException("The report has no recipient; name owners in the sync settings")
        refused = self._send(mail)
        self._mark_as_sent(mail)
        accepted = len(mail.to) - len(refused)
        self.log.info("The report went to %d of %d recipients: %s", accepted, len(mail.to), mail.subject)
        if refused:
            raise AirflowFailException(
                f"The report went to {accepted} of {len(mail.to)} recipients, {len(refused)} were refused "
                f"({'; '.join(sorted(set(refused)))}). Correct the owners and people in the sync settings"
            )

    def _send(self, mail: MailToSend) -> list[str]:
        """Send the mail to whom it can reach; returns why each of the others was left out."""
        hook = ReportMailHook(smtp_conn_id=self.conn_id)
        sender = self._read_sender(hook)
        recipients, unusable = _split_addresses(mail.to)
        if not recipients:
            raise AirflowFailException(f"None of the {len(mail.to)} recipients of the report is a usable address")
        message = build_message(mail, sender, recipients)
        if mail.may_be_out:
            raise MailMayBeOut(message, "an earlier try of this task ended before the mail server's answer was noted")
        # `from None`: the exceptions of smtplib quote addresses, and a chained one would be printed in the task log.
        try:
            with hook:
                refused = hook.send(message, [address.addr_spec for address in recipients], mail.on_handing_over)
        except MailMayBeOut:
            raise
        except smtplib.SMTPRecipientsRefused as refusal:
            raise MailNotSent(f"The mail server refused every recipient ({_replies(refusal.recipients)})") from None
        except smtplib.SMTPResponseException as refusal:
            reason = f"The mail server refused the report: {_reply(refusal.smtp_code, refusal.smtp_error)}"
            if isinstance(refusal, smtplib.SMTPDataError):
                self._mark_as_refused(mail, reason)
            raise MailNotSent(reason) from None
        except (OSError, AirflowException) as failure:
            raise MailNotSent(
                f"The mail server could not be used: {type(failure).__name__}: {_mask(str(failure))}"
            ) from None
        return [*unusable, *(_reply(*reply) for reply in refused.values())]

    def _read_sender(self, hook: ReportMailHook) -> str:
        try:
            hook.smtp_connection = hook.get_connection(self.conn_id)
        except AirflowNotFoundException as exc:
            raise AirflowFailException(
                f"The Airflow connection {self.conn_id!r} does not exist; add one of type smtp, with from_email in its extra"
            ) from exc
        sender = hook.from_email
        if not sender:
            raise AirflowFailException(
                f"The Airflow connection {self.conn_id!r} has no from_email; set it in its extra"
            )
        if not sender.isprintable():  # a line end would begin a header of its own
            raise AirflowFailException(
                f"The from_email of the Airflow connection {self.conn_id!r} is not one line; correct it in its extra"
            )
        return sender

    def _mark_as_refused(self, mail: MailToSend, reason: str) -> None:
        """Where that fails the next try must take the mail for one that may be out."""
        try:
            mail.on_refused()
        except Exception as exc:  # ruff: ignore[blind-except] -- whatever it is, the refusal must be told
            unnoted = f"{type(exc).__name__}: {_mask(str(exc))}"
            raise AirflowFailException(f"{reason}. That could not be noted ({unnoted}); clear this task") from None

    def _mark_as_sent(self, mail: MailToSend) -> None:
        """Whatever goes wrong here, the mail is out: the task must not be tried again by itself."""
        try:
            mail.on_accepted()
        except Exception as exc:
            raise AirflowFailException(
                "The report was sent, but that could not be noted; mark this task as success. To clear it would send the "
                "report again"
            ) from exc


def build_message(mail: MailToSend, sender: str, recipients: list[Address]) -> EmailMessage:
    """One message: plain text with HTML as its alternative, and the list of errors attached.

    The Message-ID follows from the mail's key alone, so that a mail server's log can be searched for it; a copy of the
    same report carries the same id, by which mailboxes tell copies.
    """
    message = EmailMessage(policy=_SEVEN_BIT)
    message["Subject"] = " ".join(mail.subject.split())
    message["From"] = sender
    message["To"] = recipients
    message["Date"] = formatdate(localtime=False)
    message["Message-ID"] = f"<{uuid5(NAMESPACE_URL, mail.key)}@{_domain(sender)}>"
    message["Auto-Submitted"] = "auto-generated"  # no out-of-office answers
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    if len(mail.csv) < ZIPPED_FROM_BYTES:
        message.add_attachment(
            mail.csv, maintype="text", subtype="csv", filename=mail.csv_name, params={"charset": "utf-8"}
        )
    else:
        message.add_attachment(
            _zip(mail.csv_name, mail.csv), maintype="application", subtype="zip", filename=f"{mail.csv_name}.zip"
        )
    return message


def _is_a_no(failure: OSError) -> bool:
    """Whether the server refused the text; every other end means that it may have it."""
    return isinstance(failure, smtplib.SMTPDataError) and 400 <= failure.smtp_code < 600


def _zip(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def _split_addresses(texts: list[str]) -> tuple[list[Address], list[str]]:
    """The addresses, and for each text that is none the reason why nothing is sent there."""
    addresses, unusable = [], []
    for text in dict.fromkeys(texts):
        try:
            addresses.append(Address(addr_spec=text))
        except (ValueError, IndexError, HeaderParseError):  # all of these, by where the text goes wrong
            unusable.append("not an e-mail address")
    return addresses, unusable


def _domain(sender: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "", sender.rpartition("@")[2]) or "localhost"


def _replies(refused: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(sorted({_reply(*reply) for reply in refused.values()}))


def _reply(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {_mask(words)}".strip()


def _mask(text: str) -> str:
    """A server's words without the addresses that many servers quote."""
    return " ".join(re.sub(r"\S*@\S*", "<address>", text).split())
