"""Sends a notification by e-mail, over SMTP.

The Message-ID is made of the notification's id. If a worker dies after the server accepted the message and before that
is recorded, the message is sent again with the same Message-ID, by which mail systems recognise it.
"""

import smtplib
import socket
import ssl
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from analytics.digest import digest_of
from analytics.notifications.connection import SEND_LIMIT, NotDelivered, any_address, connected, over_tls
from analytics.notifications.messages import one_line
from analytics.notifications.notification import Notification
from analytics.notifications.rule import Rule

_PORTS = {"smtp": 25, "smtps": 465}
_SUBMISSION = 587  # the port of smtp:// with a login
_PERMANENT = 500  # from this SMTP code on, another attempt would get the same answer


@dataclass(frozen=True)
class Mailer:
    """`url`: the server, as smtp://user:password@host:port, or smtps:// for TLS from the start. `sender`: the From of
    all messages. Over smtp://, STARTTLS is used if the server offers it and is not on this machine. A password is never
    sent to another machine without TLS.
    """

    url: str = field(repr=False)  # it contains a password
    sender: str
    seconds: float = SEND_LIMIT

    def send(self, rule: Rule, notification: Notification) -> None:
        """Raises NotDelivered."""
        parts = urlsplit(self.url)
        host = parts.hostname or "localhost"
        is_smtps = parts.scheme == "smtps"
        port = parts.port or (_SUBMISSION if parts.username and not is_smtps else _PORTS[parts.scheme])
        message = self._message(rule.target, notification)
        with connected(host, port, self.seconds, any_address) as connection:
            try:
                with closing(_Session(over_tls(connection, host) if is_smtps else connection, host)) as session:
                    _secure(session, unquote(parts.username or ""), unquote(parts.password or ""))
                    session.send_message(message)
                    _leave(session)
            except smtplib.SMTPRecipientsRefused as error:
                raise _refusal(error) from None
            except smtplib.SMTPAuthenticationError:
                raise NotDelivered(f"{host} refused the login in SMTP_URL.") from None
            except (OSError, smtplib.SMTPException, UnicodeError) as error:  # OSError: a timeout, a certificate
                raise NotDelivered(one_line(f"{host} did not accept the message: {error}", 300)) from None

    def _message(self, address: str, notification: Notification) -> EmailMessage:
        message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))  # not every server takes 8 bits
        message["From"] = self.sender
        message["To"] = address
        message["Subject"] = one_line(notification.message.subject, 200)
        message["Date"] = format_datetime(notification.created_at)
        domain = parseaddr(self.sender)[1].rpartition("@")[2]
        message["Message-ID"] = f"<{digest_of(notification.id)[:32]}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"  # so that no absence note answers it
        message.set_content(notification.message.text)
        return message


class _Session(smtplib.SMTP):
    """A session over a socket that is connected already."""

    def __init__(self, connection: socket.socket, host: str) -> None:
        self.connection = connection
        super().__init__(host, local_hostname=socket.gethostname())  # getfqdn() would query the DNS

    def _get_socket(self, *_: object) -> socket.socket:
        return self.connection


def _secure(session: _Session, user: str, password: str) -> None:
    """Encrypt the session if it leaves this machine, and sign in."""
    session.ehlo_or_helo_if_needed()
    peer = ip_address(session.connection.getpeername()[0])
    is_secure = isinstance(session.connection, ssl.SSLSocket) or peer.is_loopback
    if not is_secure and session.has_extn("starttls"):
        session.starttls(context=ssl.create_default_context())
        session.ehlo()
        is_secure = True
    if user and not is_secure:
        raise NotDelivered("The SMTP server does not offer TLS, so the password in SMTP_URL is not sent to it.")
    if user:
        session.login(user, password)


def _leave(session: _Session) -> None:
    """The server has accepted the message. Its answer to QUIT does not matter."""
    with suppress(OSError, smtplib.SMTPException):
        session.putcmd("quit")


def _refusal(error: smtplib.SMTPRecipientsRefused) -> NotDelivered:
    """A message has one recipient."""
    code, said = next(iter(error.recipients.values()))
    reason = f"The SMTP server refused the address: {code} {said.decode(errors='replace')}"
    return NotDelivered(one_line(reason, 300), is_final=code >= _PERMANENT)
