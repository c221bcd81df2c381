"""Rule 3.6 for the values that worlds are made of: how the specification reads what Salesforce holds.

Far less than the product can read, and written without looking at it; what worlds do not hold is not read here.
"""

import re
from datetime import UTC, datetime

NUMBER = r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"


def read(source: str, raw: str | None) -> str | None:
    """The handle that a field gives; None where it is empty or cannot be read."""
    text = (raw or "").strip()
    if source == "email":
        return text.lower() if re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", text) else None
    if source == "phone":
        found = re.fullmatch(r"(?:\+1 )?\(?(\d{3})\)?[-. ](\d{3})[-. ](\d{4})(?: x(\d+))?", text)
        return found and "+1" + "".join(found.groups()[:3]) + (f";ext={found[4]}" if found[4] else "")
    if source == "twitter":
        return text.removeprefix("@").lower() or None
    if source == "domain":
        host = text.lower().removeprefix("https://").removeprefix("www.").partition("/")[0]
        return host if re.fullmatch(r"[^\s.]+(\.[^\s.]+)+", host) else None
    return text or None


def is_nonsense(source: str, raw: str | None) -> bool:
    """Whether a field that feeds handles holds something that cannot be read."""
    return bool((raw or "").strip()) and read(source, raw) is None


def read_value(field: str, raw: str) -> object:
    """What a field of ours becomes, as the store would say it in JSON; None where the value does not fit (rule 3.5)."""
    text = raw.strip()
    if field == "custom_fields.score":
        return shortest(float(text)) if re.fullmatch(NUMBER, text) else None
    if field == "custom_fields.vip":
        return {"true": True, "false": False}.get(text.lower())
    if field == "custom_fields.tier":
        return raw if raw in {"gold", "silver"} else None
    if field == "custom_fields.since":
        try:
            return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        except ValueError:
            return None
    return raw


def shortest(number: float) -> float:
    """5.0 is written as 5."""
    return int(number) if number.is_integer() else number
