"""Reads phone numbers as people type them, by the numbering plans (rule 3.6). Pure.

`rphonenumbers` gives the answers of the reference library `phonenumbers` ten times as fast; where it is not
installed (there is no wheel for every machine), the reference library does the work. Neither of them lets two threads
read at once, so half of a long list is read by this file run as a program; the answers are the same.
"""

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from subprocess import DEVNULL, PIPE, Popen  # ruff: ignore[suspicious-subprocess-import] -- this file itself is run

import phonenumbers

try:
    import rphonenumbers as library
except ImportError:
    library = phonenumbers

MANY_TEXTS = 20_000
"""Fewer are read sooner than another process has started."""

_THIS_FILE = (sys.executable, "-P", __file__)


def numbering_plans() -> str:
    """The library, and its version, that knows the numbering plans."""
    return f"{library.__name__} {version(library.__name__)}"


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


def read_phones(texts: Sequence[str], region: str) -> list[str | None]:
    """`read_phone` for each text."""
    if len(texts) < MANY_TEXTS:
        return _read_here(texts, region)
    here, beside = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    try:
        with Popen(_THIS_FILE, stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as process:  # ruff: ignore[subprocess-without-shell-equals-true]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([beside, region]).encode())
            process.stdin.close()
            found = _read_here(here, region)
            return [*found, *json.load(process.stdout)]
    except (OSError, ValueError):  # the machine has no room for another process
        return _read_here(texts, region)


def _read_here(texts: Sequence[str], region: str) -> list[str | None]:
    return [read_phone(text, region) for text in texts]


if __name__ == "__main__":
    json.dump(_read_here(*json.load(sys.stdin)), sys.stdout)
