"""Who may do what: the `Authorization` header of a request against the right its route needs."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum, auto
from typing import NamedTuple

import bcrypt

from exporter.config import Right as Right
from exporter.intake.formats import FORMATS

ALL_RIGHTS = frozenset(Right)

_OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
_PUSH_RIGHTS = {form.path: form.right for form in FORMATS if "{" not in form.path}
_NAMED_PUSHES = [
    (form.path.removesuffix("{name}"), form.right) for form in FORMATS if "{" in form.path
]
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_READING_PATHS = re.compile(r"/v1/authorize(/.*)?")
"""Questions asked with the method of somebody else's request."""


def right_for(method: str, path: str) -> Right | None:
    """The right a request needs; None when it is open to everybody.

    A route nobody thought of needs a right too: `operate` when its method may change something.
    """
    if path in _PUSH_RIGHTS:
        return _PUSH_RIGHTS[path]
    if path in _OPEN_PATHS:
        return None
    for prefix, right in _NAMED_PUSHES:
        if path.startswith(prefix):
            return right
    reads = method in _READING_METHODS or _READING_PATHS.fullmatch(path)
    return Right.READ if reads else Right.OPERATE


class Decision(Enum):
    """What to do with a request.

    Attributes:
        GRANTED: serve it.
        UNAUTHENTICATED: 401 with `Authoriser.challenges`.
        FORBIDDEN: 403, the credentials are good but lack the right.
        UNVERIFIED: `await Authoriser.verify(...)` decides; it takes too long for the event loop.
        OVERLOADED: 429, too many passwords wait to be verified.
    """

    GRANTED = auto()
    UNAUTHENTICATED = auto()
    FORBIDDEN = auto()
    UNVERIFIED = auto()
    OVERLOADED = auto()


# One password takes about 70 ms at bcrypt's usual cost of 10: the last in the queue waits 2 s.
MAX_WAITING_PASSWORDS = 32
# Each good credential needs one entry, or a few when clients spell "Bearer" differently.
_MAX_REMEMBERED = 4096
# bcrypt never looked further; newer versions of the library refuse longer passwords instead.
_BCRYPT_MAX_BYTES = 72

_BCRYPT_HASH = re.compile(rb"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_BEARER_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


def is_bcrypt_hash(text: bytes) -> bool:
    return _BCRYPT_HASH.fullmatch(text) is not None


def is_bearer_token(secret: bytes) -> bool:
    """Whether a client can send this secret as a bearer token."""
    return _BEARER_TOKEN.fullmatch(secret) is not None


class Token(NamedTuple):
    """A bearer token.

    Attributes:
        secret: what a client sends.
        rights: what it allows.
        name: who has it; the same for the next secret of the same client.
    """

    secret: bytes
    rights: frozenset[Right]
    name: str = ""


class Authoriser:
    """Decides on requests. Immutable in what it accepts: a reload puts a new one in its place.

    With neither tokens nor users everybody may do everything. With either, everything but the
    health checks needs a token with the right, or a user, who has every right.

    No answer's time depends on how much of a secret was guessed. A new bearer token is hashed and
    compared in constant time with every known one. A new password costs one bcrypt, for an unknown
    user too. Headers found good are remembered by a keyed hash whose key never leaves this object:
    a lookup by a value that nobody outside can predict or steer tells nothing about the header.
    Only good headers are remembered, so strangers can neither fill nor flush that memory.

    Not safe for use by several threads: it belongs to one event loop.
    """

    def __init__(
        self,
        tokens: Iterable[Token] = (),
        users: Mapping[str, bytes] | None = None,
    ) -> None:
        """`users` maps names to bcrypt hashes."""
        self._tokens = [
            (hashlib.sha256(token.secret).digest(), token.rights, token.name) for token in tokens
        ]
        self._users = {name.encode(): hashed for name, hashed in (users or {}).items()}
        self._stranger = _unmatchable_hash(self._users.values())
        self._keyed_hash = hashlib.blake2b(key=os.urandom(hashlib.blake2b.MAX_KEY_SIZE))
        self._remembered: dict[bytes, frozenset[Right]] = {}
        self._bcrypt_turn = asyncio.Lock()
        self._waiting = 0
        self.required = bool(self._tokens or self._users)
        """False when there is nothing to check: `allowed` then grants everything."""
        self.challenges = self._challenges()
        """Values for the `WWW-Authenticate` headers of a 401, one header each."""

    def allowed(self, authorization: bytes | None, right: Right | None) -> Decision:
        """Decides at once, or says UNVERIFIED for a basic-auth header not seen before."""
        if right is None or not self.required:
            return Decision.GRANTED
        if authorization is None:
            return Decision.UNAUTHENTICATED
        rights = self._remembered.get(self._fingerprint(authorization))
        if rights is None:
            scheme, credentials = _split(authorization)
            if scheme == b"basic" and self._users:
                return Decision.UNVERIFIED
            if scheme != b"bearer":
                return Decision.UNAUTHENTICATED
            rights = self._rights_of_token(credentials)
            if not rights:
                return Decision.UNAUTHENTICATED
            self._remember(authorization, rights)
        return Decision.GRANTED if right in rights else Decision.FORBIDDEN

    async def verify(self, authorization: bytes, right: Right) -> Decision:
        """Decides on a header that `allowed` called UNVERIFIED, one password at a time."""
        if self._waiting >= MAX_WAITING_PASSWORDS:
            return Decision.OVERLOADED
        self._waiting += 1
        try:
            async with self._bcrypt_turn:
                # Whoever went before may have sent the same header.
                decision = self.allowed(authorization, right)
                if decision is Decision.UNVERIFIED:
                    decision = await self._check_password(authorization)
                return decision
        finally:
            self._waiting -= 1

    async def _check_password(self, authorization: bytes) -> Decision:
        try:
            pair = base64.b64decode(_split(authorization)[1], validate=True)
        except binascii.Error:
            return Decision.UNAUTHENTICATED
        name, _, password = pair.partition(b":")
        hashed = self._users.get(name, self._stranger)
        matches = await asyncio.to_thread(bcrypt.checkpw, password[:_BCRYPT_MAX_BYTES], hashed)
        if not matches or name not in self._users:
            return Decision.UNAUTHENTICATED
        self._remember(authorization, ALL_RIGHTS)
        return Decision.GRANTED

    def name(self, authorization: bytes) -> str:
        """Who sent a header that was granted something: the token's name, or the user's.

        It stays the same when a secret is replaced by another.
        """
        scheme, credentials = _split(authorization)
        if scheme == b"bearer":
            return "token " + next((name for _, name in self._matching(credentials)), "")
        with suppress(binascii.Error):
            return "user " + base64.b64decode(credentials, validate=True).partition(b":")[0].decode(
                "latin-1"
            )
        return ""

    def _rights_of_token(self, secret: bytes) -> frozenset[Right]:
        return frozenset().union(*(rights for rights, _ in self._matching(secret)))

    def _matching(self, secret: bytes) -> list[tuple[frozenset[Right], str]]:
        offered = hashlib.sha256(secret).digest()
        return [
            (rights, name)
            for known, rights, name in self._tokens
            if hmac.compare_digest(known, offered)
        ]

    def _fingerprint(self, authorization: bytes) -> bytes:
        keyed = self._keyed_hash.copy()
        keyed.update(authorization)
        return keyed.digest()

    def _remember(self, authorization: bytes, rights: frozenset[Right]) -> None:
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[self._fingerprint(authorization)] = rights

    def _challenges(self) -> tuple[bytes, ...]:
        schemes = [b"Basic"] * bool(self._users) + [b"Bearer"] * bool(self._tokens)
        return tuple(scheme + b' realm="llm-quota-exporter"' for scheme in schemes)


def _split(authorization: bytes) -> tuple[bytes, bytes]:
    scheme, _, credentials = authorization.strip().partition(b" ")
    return scheme.lower(), credentials.strip()


def _unmatchable_hash(hashes: Iterable[bytes]) -> bytes:
    """A hash no password has, as slow to check as the slowest of `hashes`.

    Its salt and digest are all zeros.
    """
    slowest = max((hashed.split(b"$")[2] for hashed in hashes), default=b"10")
    return b"$2b$" + slowest + b"$" + b"." * 53
