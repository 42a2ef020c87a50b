"""Writes notifications in the language of those who read them."""

from dataclasses import dataclass

from analytics.accounts.store import AccountStore
from analytics.accounts.user import plain_email
from analytics.languages import LANGUAGES, speaking
from analytics.notifications.messages import message_of, message_of_test
from analytics.notifications.notification import Message
from analytics.notifications.rule import Channel, Observation, Rule


@dataclass(frozen=True)
class MessageWriter:
    """`public_url`: the address of the reporting app for links, or "". `default_language`: a key of LANGUAGES."""

    accounts: AccountStore
    public_url: str
    default_language: str

    def write(self, rule: Rule, observation: Observation) -> Message:
        """Return what to send. Raises Unavailable."""
        with speaking(self._language_of(rule)):
            return message_of(rule, observation, self.public_url)

    def write_test(self, rule: Rule) -> Message:
        """Return a message that tests the rule's channel. Raises Unavailable."""
        with speaking(self._language_of(rule)):
            return message_of_test(rule, self.public_url)

    def _language_of(self, rule: Rule) -> str:
        """The one that the user with the rule's address chose, or else that of the rule."""
        user = self.accounts.find(plain_email(rule.target)) if rule.channel is Channel.EMAIL else None
        wanted = (user.language if user else None, rule.language)
        return next((language for language in wanted if language in LANGUAGES), self.default_language)
