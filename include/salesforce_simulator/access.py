"""Who may come in: SOAP login, the OAuth token endpoint, and the sessions that they open.

Every refusal has Salesforce's words. Credentials and permissions live in `organisation`; what a session may then do
is asked by `http` on each call through `Sessions.user_of`.
"""

import base64
import html
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import jwt

from include.salesforce_simulator.answers import LoginRefusal, Refusal, SoapRefusal
from include.salesforce_simulator.organisation import ORGANISATION_ID, Organisation, User

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LAST_VERSION_WITH_SOAP_LOGIN = 64.0
_LONGEST_ASSERTION = timedelta(minutes=5)
_BAD_PASSWORD = "Invalid username, password, security token; or user locked out."  # ruff: ignore[hardcoded-password-string]
_PUBLIC_HOSTS = {"login.salesforce.com", "test.salesforce.com"}


@dataclass
class Session:
    """An open session; it ends some time after its last use."""

    token: str
    username: str
    by_app: bool
    ends: datetime


class Sessions:
    """The sessions of an organisation, by token."""

    def __init__(self, organisation: Organisation, seconds: int) -> None:
        self.organisation = organisation
        self.seconds = seconds
        self._sessions: dict[str, Session] = {}
        self._refresh_tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def open(self, user: User, *, by_app: bool) -> Session:
        """Open a session."""
        session = Session(f"{ORGANISATION_ID[:15]}!AQ{secrets.token_urlsafe(48)}", user.username, by_app, self._end())
        with self._lock:
            self._sessions[session.token] = session
        return session

    def expire_all(self) -> None:
        """End every session; its owners can log in again."""
        with self._lock:
            self._sessions.clear()

    def user_of(self, token: str) -> User:
        """Whom a token belongs to, when it may use the REST API now."""
        session = self._sessions.get(token)
        user = self.organisation.users.get(session.username) if session else None
        app_is_out = session is not None and session.by_app and self.organisation.app.blocked
        if (
            session is None
            or user is None
            or app_is_out
            or session.ends <= self.organisation.clock.now()
            or not user.active
        ):
            raise Refusal(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if not user.api_enabled:
            raise Refusal(403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization.")
        session.ends = self._end()
        return user

    def new_refresh_token(self, user: User) -> str:
        """A refresh token for a user."""
        token = f"5Aep861{secrets.token_urlsafe(40)}"
        self._refresh_tokens[token] = user.username
        return token

    def revoke_refresh_tokens(self) -> None:
        """Every refresh token is void."""
        self._refresh_tokens.clear()

    def use_refresh_token(self, token: str) -> User:
        """The user of a refresh token; where the app rotates them it is used up."""
        rotates = self.organisation.app.rotates_refresh_tokens
        username = self._refresh_tokens.pop(token, None) if rotates else self._refresh_tokens.get(token)
        if username is None:
            raise LoginRefusal("invalid_grant", "expired access/refresh token")
        return self.organisation.users[username]

    def _end(self) -> datetime:
        return self.organisation.clock.now() + timedelta(seconds=self.seconds)


def login_by_soap(sessions: Sessions, version: float, body: str, url: str) -> str:
    """`login()` with a password and security token; the answer's XML."""
    username, password = (_element(body, name) for name in ("username", "password"))
    if version > LAST_VERSION_WITH_SOAP_LOGIN:
        raise SoapRefusal("INVALID_OPERATION", "SOAP API login() is disabled by default in this org.")
    user = sessions.organisation.users.get(username)
    if user is None or not user.active or password != user.password + user.security_token:
        raise SoapRefusal("INVALID_LOGIN", _BAD_PASSWORD)
    if not user.may_login_by_soap:
        raise SoapRefusal("INSUFFICIENT_ACCESS", "SOAP API login() is not allowed for this user")
    if not user.api_enabled:
        raise SoapRefusal("API_CURRENTLY_DISABLED", "API is disabled for this User")
    session = sessions.open(user, by_app=False)
    return _login_result(user, session, sessions.seconds, version, url)


def _element(body: str, name: str) -> str:
    found = re.search(rf"<(?:\w+:)?{name}>(.*?)</(?:\w+:)?{name}>", body, re.DOTALL)
    return html.unescape(found.group(1)).strip() if found else ""


def _login_result(user: User, session: Session, seconds: int, version: float, url: str) -> str:
    organisation = ORGANISATION_ID
    return (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns="urn:partner.soap.sforce.com" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><loginResponse><result>'
        f"<metadataServerUrl>{url}/services/Soap/m/{version}/{organisation}</metadataServerUrl>"
        "<passwordExpired>false</passwordExpired><sandbox>false</sandbox>"
        f"<serverUrl>{url}/services/Soap/u/{version}/{organisation}</serverUrl>"
        f"<sessionId>{session.token}</sessionId><userId>{user.id}</userId><userInfo>"
        f'<orgDefaultCurrencyIsoCode xsi:nil="true"/><organizationId>{organisation}</organizationId>'
        f"<organizationName>Simulated Organisation</organizationName><sessionSecondsValid>{seconds}</sessionSecondsValid>"
        f"<userEmail>{html.escape(user.email)}</userEmail><userFullName>{html.escape(user.name)}</userFullName><userId>{user.id}</userId>"
        f"<userLanguage>en_US</userLanguage><userLocale>en_US</userLocale><userName>{html.escape(user.username)}</userName>"
        "<userTimeZone>GMT</userTimeZone></userInfo></result></loginResponse></soapenv:Body></soapenv:Envelope>"
    )


def soap_fault(refusal: SoapRefusal) -> str:
    """The XML of a refused login."""
    code, message = refusal.code, html.escape(refusal.message)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:sf="urn:fault.partner.soap.sforce.com" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault>'
        f"<faultcode>{code}</faultcode><faultstring>{code}: {message}</faultstring>"
        f'<detail><sf:LoginFault xsi:type="sf:LoginFault"><sf:exceptionCode>{code}</sf:exceptionCode>'
        f"<sf:exceptionMessage>{message}</sf:exceptionMessage></sf:LoginFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>"
    )


def grant_token(sessions: Sessions, form: Mapping[str, str], authorization: str, url: str) -> dict[str, str]:
    """The token endpoint: checks the app, then the grant, and opens a session."""
    grant = form.get("grant_type", "")
    grants = {
        "client_credentials": _by_client_credentials,
        "password": _by_password,
        JWT_BEARER: _by_jwt,
        "refresh_token": _by_refresh_token,
    }
    if grant not in grants:
        raise LoginRefusal("unsupported_grant_type", "grant type not supported")
    user = grants[grant](sessions, dict(form), authorization, url)
    _check_user(sessions, user)
    session = sessions.open(user, by_app=True)
    issued = str(int(sessions.organisation.clock.now().timestamp() * 1000))
    answer = {
        "access_token": session.token,
        "instance_url": url,
        "id": f"{url}/id/{ORGANISATION_ID}/{user.id}",
        "issued_at": issued,
        "signature": base64.b64encode(secrets.token_bytes(32)).decode(),
        "token_type": "Bearer",
    }
    if grant in {JWT_BEARER, "client_credentials"}:
        answer["scope"] = "api"
    rotates = grant == "refresh_token" and sessions.organisation.app.rotates_refresh_tokens
    if grant == "password" or rotates:
        answer["refresh_token"] = sessions.new_refresh_token(user)
    return answer


def _check_user(sessions: Sessions, user: User) -> None:
    app = sessions.organisation.app
    if not user.active:
        raise LoginRefusal("inactive_user", "user is inactive")
    if user.login_refused_because:
        raise LoginRefusal("invalid_grant", user.login_refused_because)
    if app.approved_users is not None and user.username not in app.approved_users:
        raise LoginRefusal("invalid_app_access", "user is not admin approved to access this app")


def _check_app(sessions: Sessions, key: str) -> None:
    app = sessions.organisation.app
    if key != app.consumer_key:
        raise LoginRefusal("invalid_client_id", "client identifier invalid")
    if not app.installed:
        raise LoginRefusal("invalid_client", "app must be installed into org")
    if app.blocked:
        raise LoginRefusal("OAUTH_APP_BLOCKED", "this app is blocked by admin")


def _check_secret(sessions: Sessions, key: str, secret: str) -> None:
    _check_app(sessions, key)
    if secret != sessions.organisation.app.consumer_secret:
        raise LoginRefusal("invalid_client", "invalid client credentials")


def _by_client_credentials(sessions: Sessions, form: dict[str, str], authorization: str, url: str) -> User:
    key, secret = form.get("client_id", ""), form.get("client_secret", "")
    if authorization.startswith("Basic "):
        key, _, secret = (
            base64.b64decode(authorization.removeprefix("Basic ")).decode("utf-8", "replace").partition(":")
        )
    _check_secret(sessions, key, secret)
    organisation = sessions.organisation
    if organisation.app.run_as not in organisation.users:
        raise LoginRefusal("invalid_grant", "no client credentials user enabled")
    return organisation.users[organisation.app.run_as]


def _by_password(sessions: Sessions, form: dict[str, str], authorization: str, url: str) -> User:
    _check_secret(sessions, form.get("client_id", ""), form.get("client_secret", ""))
    user = sessions.organisation.users.get(form.get("username", ""))
    passwords = {user.password + user.security_token} if user else set()
    if not sessions.organisation.app.allows_password_flow or user is None or form.get("password") not in passwords:
        raise LoginRefusal("invalid_grant", "authentication failure")
    return user


def _by_jwt(sessions: Sessions, form: dict[str, str], authorization: str, url: str) -> User:
    assertion = form.get("assertion", "")
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError as broken:
        raise LoginRefusal("invalid_grant", "invalid assertion") from broken
    _check_app(sessions, str(claims.get("iss", "")))
    try:
        jwt.decode_complete(
            assertion,
            sessions.organisation.app.private_key.public_key(),
            algorithms=["RS256"],
            options={"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_sub": False},
        )
    except jwt.InvalidTokenError as broken:
        raise LoginRefusal("invalid_grant", "invalid assertion") from broken
    _check_claims(sessions, claims, url)
    user = sessions.organisation.users.get(str(claims.get("sub", "")))
    if user is None:
        raise LoginRefusal("invalid_grant", "user hasn't approved this consumer")
    return user


def _check_claims(sessions: Sessions, claims: dict[str, object], url: str) -> None:
    host = urlsplit(str(claims.get("aud", ""))).netloc
    if host not in {*_PUBLIC_HOSTS, urlsplit(url).netloc}:
        raise LoginRefusal("invalid_grant", "Audience validation failed")
    left = float(str(claims.get("exp", 0))) - sessions.organisation.clock.now().timestamp()
    if not 0 < left <= _LONGEST_ASSERTION.total_seconds():
        raise LoginRefusal("invalid_grant", "expired authorization code")


def _by_refresh_token(sessions: Sessions, form: dict[str, str], authorization: str, url: str) -> User:
    _check_secret(sessions, form.get("client_id", ""), form.get("client_secret", ""))
    return sessions.use_refresh_token(form.get("refresh_token", ""))
