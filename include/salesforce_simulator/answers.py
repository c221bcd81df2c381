"""How Salesforce says no: the error bodies, as status, code and literal message.

Every refusal of the simulator is a `Refusal` raised where it is found; `http` turns it into an answer. The
literal texts stand here or next to what they concern, never in the tests alone, so that a client meets the same
words as with Salesforce.
"""

from typing import Any

NOT_FOUND = "The requested resource does not exist"


class Refusal(Exception):
    """A REST error: a JSON array with one message and code (`fields` only where Salesforce sends it)."""

    def __init__(self, status: int, code: str, message: str, fields: list[str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields

    @property
    def body(self) -> list[dict[str, Any]]:
        """The JSON that Salesforce sends."""
        answer: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        if self.fields is not None:
            answer["fields"] = self.fields
        return [answer]


class LoginRefusal(Exception):
    """An OAuth error: always 400, `error` and `error_description`."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.body = {"error": error, "error_description": description}


class SoapRefusal(Exception):
    """A SOAP fault of `login()`: always 500."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def not_found() -> Refusal:
    """What Salesforce says of anything that is not there, or not visible to the connected user."""
    return Refusal(404, "NOT_FOUND", NOT_FOUND)


def malformed(message: str, query: str = "", position: int | None = None) -> Refusal:
    """A query that cannot be read, with the place of the fault where it is known."""
    return Refusal(400, "MALFORMED_QUERY", with_caret(query, position, message) if position is not None else message)


def invalid_field(message: str) -> Refusal:
    """A query that names a field wrongly."""
    return Refusal(400, "INVALID_FIELD", message)


def no_such_column(query: str, position: int, name: str, sobject: str) -> Refusal:
    """A field that does not exist, or is hidden from the connected user (the text is the same)."""
    message = (
        f"No such column '{name}' on entity '{sobject}'. If you are attempting to use a custom field, be sure to append "
        "the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names."
    )
    # In recorded answers the caret of this one stands one place to the right of the column that it names.
    return invalid_field(with_caret(query, position, message, shift=1))


def no_such_type(query: str, position: int, name: str) -> Refusal:
    """An object that does not exist."""
    message = (
        f"sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure to append the "
        "'__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names."
    )
    return Refusal(400, "INVALID_TYPE", with_caret(query, position, message))


def with_caret(query: str, position: int, message: str, shift: int = 0) -> str:
    """The query with a caret below the fault, as Salesforce shows it; rows and columns count from 1."""
    before = query[:position]
    row = before.count("\n") + 1
    start = before.rfind("\n") + 1
    line = query.split("\n")[row - 1]
    return f"\n{line}\n{' ' * (position - start + shift)}^\nERROR at Row:{row}:Column:{position - start + 1}\n{message}"
