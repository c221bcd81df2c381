"""Values that break importers, and what becomes of each: as data, said beforehand.

A text that is here survives wherever a text can stand. Where something else is wanted (a number, an address), the tables
say what it is read as; whatever they do not name cannot be read there, and is reported.
"""

from typing import Any

TEXTS = {
    "words that mean nothing": [
        "NA",
        "N/A",
        "#N/A",
        "null",
        "NULL",
        "None",
        "nan",
        "NaN",
        "nil",
        "-",
        "undefined",
        "<NA>",
    ],
    "looks like a number": [
        "0012",
        "1E5",
        "1e400",
        "00",
        "-0",
        "1.0",
        "+1",
        "0x1F",
        "1_000",
        "٣",
        "Infinity",
        "1,000.50",
    ],
    "looks like a boolean or a date": [
        "TRUE",
        "false",
        "t",
        "yes",
        "2026-02-28",
        "2026-02-30",
        "0000-00-00",
        "12/31/99",
    ],
    "emoji": ["🦄", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "a🚀b", "\N{VARIATION SELECTOR-16}"],
    "combining and look-alike": [
        "e\u0301",
        "é",
        "\u00c5",
        "\u212b",
        "A\u030a",
        "ﬁ",
        "Ａ",
        "ẞß",
        "İıIi",
        "Ωσς",
        "\u200bzero\u200b",
    ],
    "right to left": ["بن علي", "אברהם", "\u202egnp.exe\u202c", "a\u200fb", "\u2067x\u2069"],
    "white space": [
        "  both ends  ",
        "\ttab\t",
        " ",
        "a  b",
        "\u00a0",
        "a\u0085b",
        "\u2028",
        "\u2029",
        "\ufeffbom",
        "\u3000",
    ],
    "line breaks": ["a\r\nb", "a\nb", "a\rb", "\n", "\r\n", "12 Main St\r\nc/o Ann, 2nd; floor\r\n"],
    "quotes and delimiters": ['"', '""', '"a', "'", "''", ",", ";", "|", 'a,"b",c', "`", '","', '"\n"', "a\\", "\\"],
    "PostgreSQL's and others' escapes": [
        "\\N",
        "\\.",
        "\\\\",
        "$$",
        "$1",
        "%s",
        "%(name)s",
        "{}",
        "{0}",
        "E'\\n'",
        ":x",
    ],
    "JSON and arrays": ["[]", '{"a": 1}', '["x"]', "\\u0000", "\\u0041", '\\"', "{a,b}", "]", "}"],
    "attacks": [
        "Robert'); DROP TABLE contact_store.contacts;--",
        "<script>alert(1)</script>",
        "<b>Bold</b>",
        "&amp;",
        "${jndi:ldap://x}",
        "{{ 7*7 }}",
        "../../etc/passwd",
    ],
    "formulas": ["=cmd|'/c calc'!A1", "+1+1", "-1+1", "@SUM(A1:A9)", "\t=1+1", "＝1+1"],
    "control characters": ["a\x01b", "\x1f", "\x7f", "a\x0bb", "\x0c", "\x1b[31m", "\x1a"],
    "edges of Unicode": ["\U0010ffff", "\ue000", "\uffff", "\ufffd", "\ud7ff"],
    "long": ["x" * 255, "ü" * 255, "🦄" * 120],
}

NUMBERS: dict[str, Any] = {"0012": 12, "1E5": 100_000, "1e400": 10**400, "00": 0, "-0": 0, "1.0": 1, "+1": 1}
BOOLEANS: dict[str, Any] = {"TRUE": True, "false": False}
DATETIMES: dict[str, Any] = {"2026-02-28": "2026-02-28T00:00:00Z"}
VALUES_OF_ENUM = [
    "NA",
    "null",
    "None",
    "nan",
    "TRUE",
    "0012",
    "1E5",
    "-",
    '"',
    "'",
    ",",
    "🦄",
    "e\u0301",
    "בن",
    "<b>Bold</b>",
]
ENUMS: dict[str, Any] = {text: text for text in VALUES_OF_ENUM}
DOMAINS_IN_TEXTS = {"1.0": "1.0", "\u202egnp.exe\u202c": "\u202egnp.exe\u202c"}
"""What is read as a number, a truth value, a moment, one of an enum's values, a domain. Of the texts none is anything else."""

EMAILS = {
    "a+tag@example.org": "a+tag@example.org",
    "A+Tag@Example.ORG": None,
    " padded@example.org\t": "padded@example.org",
    "b.levy@expressl&t.net": "b.levy@expressl&t.net",
    "用户@例え.jp": "用户@例え.jp",
    "ünï@exämple.de": "ünï@exämple.de",
    "o'neil@example.org": "o'neil@example.org",
    "=cmd@example.org": "=cmd@example.org",
    '"quoted"@example.org': '"quoted"@example.org',
    "\u00a0nbsp@example.org": "nbsp@example.org",
    "x@sub.domain.co.uk": "x@sub.domain.co.uk",
    "İ@example.org": "i@example.org",
    "<script>@example.org": "<script>@example.org",
    "two@@example.org": "",
    "no-at.example.org": "",
    "with space@example.org": "",
    "dotless@localhost": "",
    "@example.org": "",
    "x@.org": "",
    "x@example.": "",
    "null": "",
    "x" * 70 + "@e.org": "x" * 70 + "@e.org",
}
"""What becomes of each: a handle, "" where it cannot be read, None where the one before has it already."""

DOMAINS = {
    "https://www.acme.example/path?x=1#y": "acme.example",
    "HTTP://ACME.example:8443": None,
    "user:secret@acme2.example": "acme2.example",
    "https://www.例え.jp/": "例え.jp",
    "пример.рф": "пример.рф",
    "XN--E1AFMKFD.xn--p1ai": "xn--e1afmkfd.xn--p1ai",
    "acme3.example.": "acme3.example",
    "www.www.example": "www.example",
    "=cmd.example": "=cmd.example",
    "sub.domain.co.uk": "sub.domain.co.uk",
    "1.2.3.4": "1.2.3.4",
    "x" * 63 + ".example": "x" * 63 + ".example",
    "x" * 64 + ".example": "",
    "javascript:alert(1)": "",
    "<script>.example": "",
    "a b.example": "",
    "-bad.example": "",
    "[::1]": "",
    "localhost": "",
    "n/a": "",
    "two@@acme4.example": "acme4.example",
    "acme5.example\r\nBcc: x": "",
    '"quoted".example': "",
    "a..example": "",
}
"""The same of the domains of accounts."""

SHOWN_OTHERWISE = {
    "a\u0085b": "a ↵ b",
    "a\r\nb": "a ↵ b",
    "a\nb": "a ↵ b",
    "a\rb": "a ↵ b",
    "a\x0bb": "a ↵ b",
    "12 Main St\r\nc/o Ann, 2nd; floor": "12 Main St ↵ c/o Ann, 2nd; floor",
    "12 Main St\r\nc/o Ann, 2nd; floor\r\n": "12 Main St ↵ c/o Ann, 2nd; floor ↵ ",
    '"\n"': '" ↵ "',
    "\u202egnp.exe\u202c": "gnp.exe",
    "\u2067x\u2069": "x",
    "a\x01b": "ab",
    "\x7f": "",
    "\x1b[31m": "[31m",
    "\x1a": "",
}
"""How a mail shows what is more than one line, cannot be seen, or would turn the text behind it around."""

COUNTRIES = ("US", "GB", "DE", "FR", "IT", "ES", "NL", "PL", "SE", "CH", "IN", "JP", "CN", "KR", "BR", "MX", "ZA", "NG", "AU", "IL")  # fmt: skip
NO_PHONES = ("call me", "0", "12", "+999 123", "n/a", "++", "x12", "٣", "1" * 40)
