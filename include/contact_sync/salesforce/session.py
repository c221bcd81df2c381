"""One login to Salesforce, and every request made with it.

The provider's `SalesforceHook` does the login, in whichever way the Airflow connection says; it has no timeout, no
retry and loops for ever on a session that stays refused, so requests go through here: with timeouts, a bounded number
of attempts with growing waits, and a bounded number of new logins. Bodies, tokens and addresses with filters are
never logged.
"""

import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from xml.parsers.expat import ExpatError

import requests
import tenacity

from include.contact_sync.errors import RunError
from include.contact_sync.salesforce.faults import (
    CursorLost,
    Damaged,
    Refused,
    SessionExpired,
    Unanswered,
    error_of,
    garbled_login,
    login_error,
    read_refusal,
)
from include.contact_sync.salesforce.pace import Pace

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Login:
    """What a login gives: a token, the organisation's host and the API version that the connection names."""

    token: str
    host: str
    version: str

    def __repr__(self) -> str:
        return f"Login(host={self.host!r}, version={self.version!r})"


def read_json(response: requests.Response) -> Any:
    """The JSON of an answer, numbers as the text that Salesforce wrote."""
    try:
        return json.loads(response.content, parse_float=str, parse_int=str)
    except ValueError:
        raise Damaged("an answer is not the JSON it should be", "salesforce_unavailable") from None


class Session:
    """The requests of one step; `calls` counts them, `api_usage` is what the last answer said of the daily limit."""

    def __init__(self, log_in: Callable[[], Login], pace: Pace, sleep: Callable[[float], None] = time.sleep) -> None:
        self.pace = pace
        self.sleep = sleep
        self.calls = 0
        self.api_usage: str | None = None
        self._log_in = log_in
        self._logins_left = pace.logins_again
        self._http = requests.Session()
        self._login = self._patiently(log_in)

    @property
    def host(self) -> str:
        """The organisation's host, with its port where it has one."""
        return self._login.host

    def get(self, path: str, **options: Any) -> Any:
        """The JSON at a path below the API version, or at a full path such as a `nextRecordsUrl`."""
        return self.request("GET", path, read_json, **options)

    def request(
        self,
        method: str,
        path: str,
        read: Callable[[requests.Response], Answer],
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, str] | None = None,
        accept: str = "application/json",
        needs_this_session: bool = False,
        attempts: int | None = None,
    ) -> Answer:
        """Send one request until `read` could make something of the answer.

        `needs_this_session`: a query cursor dies with the session that opened it, so after a new login it is
        `CursorLost` instead of being asked for again.

        Raises:
            Refused, CursorLost, Damaged, RetryableError, RunError: as in `faults`.
        """

        def send() -> Answer:
            response = self._send(method, path, params, body, accept)
            if not response.ok:
                raise error_of(read_refusal(response))
            return read(response)

        def send_logged_in() -> Answer:
            while True:
                try:
                    return send()
                except SessionExpired as expired:
                    self._log_in_again(expired)
                    if needs_this_session:
                        raise CursorLost("the session expired while pages were read") from expired

        return self._patiently(send_logged_in, attempts)

    def close(self) -> None:
        """Give back the connections."""
        self._http.close()

    def _send(
        self, method: str, path: str, params: Mapping[str, str] | None, body: Mapping[str, str] | None, accept: str
    ) -> requests.Response:
        base = "" if path.startswith("/") else f"/services/data/v{self._login.version}/"
        self.calls += 1
        try:
            response = self._http.request(
                method,
                f"https://{self._login.host}{base}{path}",
                params=params,
                json=body,
                headers={"Authorization": f"Bearer {self._login.token}", "Accept": accept, "Accept-Encoding": "gzip"},
                timeout=(self.pace.connect_seconds, self.pace.read_seconds),
            )
        except requests.RequestException as failed:
            raise Unanswered(f"{type(failed).__name__} at {self._login.host}") from failed
        self.api_usage = response.headers.get("Sforce-Limit-Info", self.api_usage)
        return response

    def _log_in_again(self, expired: SessionExpired) -> None:
        if self._logins_left == 0:
            raise RunError(
                "login_failed", f"the session was refused after every new login: {expired.detail}"
            ) from expired
        self._logins_left -= 1
        log.info("The Salesforce session expired; logging in again")
        self._login = self._patiently(self._log_in)

    def _patiently(self, ask: Callable[[], Answer], attempts: int | None = None) -> Answer:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Unanswered, Damaged)),
            stop=lambda state: state.attempt_number >= self._attempts_for(state, attempts),
            wait=tenacity.wait_exponential(multiplier=self.pace.first_wait, max=self.pace.longest_wait)
            + tenacity.wait_random(0, self.pace.first_wait),
            before_sleep=_say_that_it_waits,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(ask)
        except Unanswered as gave_up:
            if gave_up.refusal and gave_up.is_query_timeout:
                raise Refused(gave_up.refusal) from gave_up
            raise

    def _attempts_for(self, state: tenacity.RetryCallState, attempts: int | None) -> int:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Damaged):
            allowed = self.pace.damaged_answers
        elif isinstance(error, Unanswered) and error.is_query_timeout:
            allowed = self.pace.query_timeouts
        else:
            allowed = self.pace.attempts
        return min(allowed, attempts or allowed)


def _say_that_it_waits(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0
    log.warning("Salesforce: %s; attempt %d again in %.0f s", getattr(error, "detail", ""), state.attempt_number, wait)


class _TimeLimited(requests.Session):
    """simple-salesforce logs in without any timeout; this gives it one."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._timeout = (pace.connect_seconds, pace.read_seconds)

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{"timeout": self._timeout, **options})


def log_in_by_connection(conn_id: str, pace: Pace) -> Login:
    """Log in as the Airflow connection says.

    Raises:
        Unanswered: Salesforce could not be reached or asks for patience.
        RunError: `login_failed`, `app_blocked`, `api_disabled`, `api_limit`.
    """
    from airflow.exceptions import AirflowException
    from airflow.providers.salesforce.hooks.salesforce import SalesforceHook
    from jwt import PyJWTError
    from simple_salesforce.exceptions import SalesforceAuthenticationFailed

    # Its warnings and log lines repeat consumer keys and proxy addresses.
    logging.getLogger("simple_salesforce").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), _TimeLimited(pace) as http:
            warnings.simplefilter("ignore", UserWarning)
            hook = SalesforceHook(conn_id, session=http)
            http.proxies.update(_proxies(hook.get_connection(conn_id).extra_dejson.get("proxies")))
            connection = hook.get_conn()
            return Login(connection.session_id, connection.sf_instance, connection.sf_version.removeprefix("v"))
    except SalesforceAuthenticationFailed as refused:
        raise login_error(refused.code, refused.auth_message) from None
    except requests.RequestException as failed:
        raise Unanswered(f"{type(failed).__name__} at login") from failed
    except (AttributeError, ExpatError) as garbled:  # it takes every JSON answer for an object, and XML for whole
        raise garbled_login() from garbled
    except AirflowException as missing:
        raise RunError("login_failed", str(missing)) from missing
    except (TypeError, ValueError, OSError, PyJWTError) as unusable:
        raise RunError(
            "login_failed", f"the connection {conn_id} cannot be used ({type(unusable).__name__})"
        ) from unusable


def _proxies(extra: Any) -> dict[str, str]:
    return dict(json.loads(extra) if isinstance(extra, str) else extra or {})
