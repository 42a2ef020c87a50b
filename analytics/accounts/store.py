"""Stores users and invitations in MongoDB. Only this module knows MongoDB's names of them.

Callers must handle Unavailable, raised if MongoDB is unreachable or slow. A write that raises it may have happened.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from analytics.accounts.invitation import INVITATION_LIFE, OWNER_INVITATION_LIFE, Invitation, new_token
from analytics.accounts.user import Role, TwoStep, User
from analytics.digest import digest_of
from analytics.interval import whole_milliseconds
from analytics.mongodb import reading, writing


class EmailTaken(Exception):
    """Another user has this e-mail address."""


class InvitationOver(Exception):
    """The invitation does not exist, was used, or has expired."""


class AccountStore:
    """Stores users and their invitations. `now` returns aware times."""

    def __init__(self, database: Database[dict[str, Any]], now: Callable[[], datetime]) -> None:
        self._database = database
        self._users = database["users"]
        self._invitations = database["invitations"]
        self._now = now

    def has_users(self) -> bool:
        """Raises Unavailable."""
        with reading(self._database):
            return self._users.find_one({}, {"_id": 1}) is not None

    def get(self, user_id: UUID) -> User | None:
        """Raises Unavailable."""
        with reading(self._database):
            return _user_or_none(self._users.find_one({"_id": user_id}))

    def find(self, email: str) -> User | None:
        """Return the user with this address, as plain_email returns it. Raises Unavailable."""
        with reading(self._database):
            return _user_or_none(self._users.find_one({"email": email}))

    def list(self) -> Sequence[User]:
        """Return all users, by e-mail address. Raises Unavailable."""
        with reading(self._database):
            return [_user(each) for each in self._users.find({}).sort("email")]

    def members(self, site_id: str) -> Sequence[User]:
        """Return the users with a role for the site, by e-mail address. Owners are not among them. Raises
        Unavailable.
        """
        with reading(self._database):
            found = self._users.find({"is_owner": False, "roles.site_id": site_id})
            return [_user(each) for each in found.sort("email")]

    def invite_owner(self, email: str | None = None) -> str:
        """Make an invitation to be an owner, and return its token, which cannot be read again. It replaces earlier
        invitations to be an owner. Raises Unavailable.
        """
        token = new_token()
        made = Invitation(digest_of(token), Role.OWNER, None, email, self._now() + OWNER_INVITATION_LIFE)
        with writing(self._database):
            self._invitations.delete_many({"role": Role.OWNER})
        self._keep(made)
        return token

    def invite(self, email: str, site_id: str, role: Role) -> str:
        """Make an invitation to a site, and return its token, which cannot be read again. It replaces earlier ones of
        this address to the site. Raises Unavailable.
        """
        token = new_token()
        made = Invitation(digest_of(token), role, site_id, email, self._now() + INVITATION_LIFE)
        self.withdraw(email, site_id)
        self._keep(made)
        return token

    def withdraw(self, email: str, site_id: str) -> None:
        """Remove the invitation of this address to the site, if there is one. Raises Unavailable."""
        with writing(self._database):
            self._invitations.delete_many({"email": email, "site_id": site_id})

    def invitation(self, token: str) -> Invitation | None:
        """Return the invitation if it can be used now. Raises Unavailable."""
        with reading(self._database):
            found = self._invitations.find_one(self._usable(token))
        return _invitation(found) if found else None

    def invitations(self, site_id: str) -> Sequence[Invitation]:
        """Return the invitations to the site that can be used now, by e-mail address. Raises Unavailable."""
        with reading(self._database):
            found = self._invitations.find({"site_id": site_id, "expires_at": {"$gt": self._now()}})
            return [_invitation(each) for each in found.sort("email")]

    def join(self, token: str, email: str, name: str, password_hash: str) -> User:
        """Use the invitation to create a user. Raises InvitationOver, EmailTaken, and Unavailable."""
        made = User(uuid4(), email, name, password_hash, whole_milliseconds(self._now()))
        with writing(self._database):
            self._users.create_index("email", unique=True)
        return self._use(token, partial(self._create, made))

    def accept(self, token: str, user_id: UUID) -> User:
        """Use the invitation to give an existing user its role. Raises InvitationOver, also if the user does not exist
        or has another address than the invited one, and Unavailable.
        """
        return self._use(token, partial(self._give, user_id))

    def set_role(self, user_id: UUID, site_id: str, role: Role | None) -> User | None:
        """Give the user this role for the site, or none. Returns None if there is no such user. Raises Unavailable."""
        return self._change({"_id": user_id}, [{"$set": {"roles": _roles_with(site_id, role)}}])

    def set_password(self, user_id: UUID, password_hash: str) -> User | None:
        """Change the password, and end all sessions of the user. Returns None if there is no such user. Raises
        Unavailable.
        """
        return self._change({"_id": user_id}, {"$set": {"password_hash": password_hash}, "$inc": {"epoch": 1}})

    def rehash(self, user: User, password_hash: str) -> None:
        """Store the same password with another hash, unless the password changed meanwhile. Raises Unavailable."""
        kept = {"_id": user.id, "password_hash": user.password_hash}
        self._change(kept, {"$set": {"password_hash": password_hash}})

    def end_sessions(self, user_id: UUID) -> User | None:
        """End all sessions of the user. Returns None if there is no such user. Raises Unavailable."""
        return self._change({"_id": user_id}, {"$inc": {"epoch": 1}})

    def set_two_step(self, user_id: UUID, two_step: TwoStep | None) -> User | None:
        """Turn two-step sign-in on, or off. Returns None if there is no such user. Raises Unavailable."""
        return self._change({"_id": user_id}, {"$set": {"two_step": asdict(two_step) if two_step else None}})

    def set_language(self, user_id: UUID, language: str) -> User | None:
        """Returns None if there is no such user. Raises Unavailable."""
        return self._change({"_id": user_id}, {"$set": {"language": language}})

    def use_step(self, user_id: UUID, secret: str, step: int) -> bool:
        """Record that the code of this time step was used. Returns False if it, or a later one, was used before. Raises
        Unavailable.
        """
        unused = {"_id": user_id, "two_step.secret": secret, "two_step.last_step": {"$lt": step}}
        return self._change(unused, {"$set": {"two_step.last_step": step}}) is not None

    def use_recovery_code(self, user_id: UUID, digest: str) -> bool:
        """Remove a recovery code. Returns False if the user does not have it. Raises Unavailable."""
        unused = {"_id": user_id, "two_step.recovery_digests": digest}
        return self._change(unused, {"$pull": {"two_step.recovery_digests": digest}}) is not None

    def remove(self, user_id: UUID) -> bool:
        """Remove the user, and return whether there was one. Raises Unavailable."""
        with writing(self._database):
            return self._users.delete_one({"_id": user_id}).deleted_count > 0

    def _keep(self, invitation: Invitation) -> None:
        with writing(self._database):
            self._invitations.create_index("expires_at", expireAfterSeconds=0)
            self._invitations.insert_one(_invitation_document(invitation))

    def _usable(self, token: str) -> dict[str, Any]:
        return {"_id": digest_of(token), "expires_at": {"$gt": self._now()}}

    def _use(self, token: str, grant: Callable[[Invitation, ClientSession], User]) -> User:
        """Remove the invitation and grant what it offers, both or neither."""

        def use(session: ClientSession) -> User:
            found = self._invitations.find_one_and_delete(self._usable(token), session=session)
            if found is None:
                raise InvitationOver
            return grant(_invitation(found), session)

        with writing(self._database), self._database.client.start_session() as session:
            return session.with_transaction(use)

    def _create(self, user: User, invitation: Invitation, session: ClientSession) -> User:
        if invitation.email not in (None, user.email):
            raise InvitationOver
        roles = {invitation.site_id: invitation.role} if invitation.site_id else {}
        made = replace(user, is_owner=invitation.role is Role.OWNER, roles=roles)
        if self._users.find_one({"email": user.email}, {"_id": 1}, session=session):
            raise EmailTaken
        try:
            self._users.insert_one(_document(made), session=session)
        except DuplicateKeyError:  # another request inserted it meanwhile
            raise EmailTaken from None
        return made

    def _give(self, user_id: UUID, invitation: Invitation, session: ClientSession) -> User:
        invited = {"_id": user_id} | ({"email": invitation.email} if invitation.email else {})
        given: dict[str, Any] = {"is_owner": True}
        if invitation.site_id:
            given = {"roles": _roles_with(invitation.site_id, invitation.role)}
        found = self._users.find_one_and_update(
            invited, [{"$set": given}], session=session, return_document=ReturnDocument.AFTER
        )
        if found is None:
            raise InvitationOver
        return _user(found)

    def _change(self, which: dict[str, Any], change: Any) -> User | None:
        with writing(self._database):
            return _user_or_none(self._users.find_one_and_update(which, change, return_document=ReturnDocument.AFTER))


def _roles_with(site_id: str, role: Role | None) -> dict[str, Any]:
    """An expression: a user's roles, with this one for the site. A site_id may begin with $, so it is a literal."""
    others = {"$filter": {"input": "$roles", "cond": {"$ne": ["$$this.site_id", {"$literal": site_id}]}}}
    given = [{"site_id": {"$literal": site_id}, "role": role}] if role else []
    return {"$concatArrays": [others, given]}


def _user_or_none(document: dict[str, Any] | None) -> User | None:
    return _user(document) if document else None


def _user(document: dict[str, Any]) -> User:
    two_step = document["two_step"]
    return User(
        document["_id"],
        document["email"],
        document["name"],
        document["password_hash"],
        document["created_at"],
        document["is_owner"],
        {each["site_id"]: Role(each["role"]) for each in document["roles"]},
        document["epoch"],
        TwoStep(**two_step) if two_step else None,
        document.get("language", ""),  # users of earlier versions have none
    )


def _document(user: User) -> dict[str, Any]:
    return {
        "_id": user.id,
        "email": user.email,
        "name": user.name,
        "password_hash": user.password_hash,
        "created_at": user.created_at,
        "is_owner": user.is_owner,
        "roles": [{"site_id": site_id, "role": role} for site_id, role in user.roles.items()],
        "epoch": user.epoch,
        "two_step": asdict(user.two_step) if user.two_step else None,
        "language": user.language,
    }


def _invitation(document: dict[str, Any]) -> Invitation:
    return Invitation(
        document["_id"], Role(document["role"]), document["site_id"], document["email"], document["expires_at"]
    )


def _invitation_document(invitation: Invitation) -> dict[str, Any]:
    return {"_id" if name == "digest" else name: value for name, value in asdict(invitation).items()}
