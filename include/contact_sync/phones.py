"""Reads phone numbers as people type them, by the numbering plans (rule 3.6). Pure.

`rphonenumbers` gives the answers of the reference library `phonenumbers` ten times as fast; where it is not
installed (there is no wheel for every machine), the reference library does the work.
"""

from collections.abc import Iterable

import phonenumbers

try:
    import rphonenumbers as library
except ImportError:
    library = phonenumbers


def read_phone(text: str, region: str) -> str | None:
    """The number in E.164, with an extension as in RFC 3966; None where it is not valid in its numbering plan.

    >>> read_phone("(212) 842-5500 x12", "US")
    '+12128425500;ext=12'
    >>> read_phone("call me", "US") is None
    True
    """
    try:
        number = library.parse(text, region)
    except (library.NumberParseException, phonenumbers.NumberParseException):
        return None
    if not library.is_valid_number(number):
        return None
    written: str = library.format_number(number, library.PhoneNumberFormat.E164)
    return f"{written};ext={number.extension}" if number.extension else written


def read_phones(texts: Iterable[str], region: str) -> list[str | None]:
    """`read_phone` for each text."""
    return [read_phone(text, region) for text in texts]
