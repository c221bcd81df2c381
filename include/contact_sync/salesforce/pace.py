"""How patiently and in which portions Salesforce is asked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Attempts, waits (seconds) and sizes (rows, bytes). The defaults suit a live organisation; tests hurry.

    With them a request is given up after about a minute of waiting, and a million contacts take some forty calls.
    """

    attempts: int = 7
    query_timeouts: int = 3
    damaged_answers: int = 3
    first_wait: float = 1.0
    longest_wait: float = 60.0
    connect_seconds: float = 30.0
    read_seconds: float = 180.0
    logins_again: int = 2

    first_poll: float = 0.05
    longest_poll: float = 15.0
    job_seconds: float = 2 * 60 * 60.0
    report_seconds: float = 10.0

    rest_rows: int = 10_000
    query_length: int = 8_000
    first_page_rows: int = 10_000
    page_rows: int = 100_000
    page_bytes: int = 64 * 1024 * 1024
