"""Who may call what: tokens, their scopes, and what each call needs."""

import contextlib
import hashlib
import hmac
import secrets as chance
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from walnatsd.config.load import Loaded
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.model.scope import Scope
from walnatsd.observe.metrics import Metrics

Scopes = frozenset[Scope]
"""Any of these will do."""

_EMIT: Scopes = frozenset({"emit"})
_ACT: Scopes = frozenset({"act"})
_EMIT_OR_ACT = _EMIT | _ACT
ADMIN: Scopes = frozenset({"admin"})
_ANY = _EMIT | _ACT | ADMIN
_NONE: Scopes = frozenset()

_NEEDS: Mapping[str, Scopes] = {
    # gRPC methods by service, and operations of the HTTP addresses by name
    "walnatsd.v1.Events/Register": _EMIT_OR_ACT,  # actors are registered together with their events
    "walnatsd.v1.Events/Emit": _EMIT,
    "emit": _EMIT,
    "walnatsd.v1.Events/EmitBatch": _EMIT,
    "emit-batch": _EMIT,
    "walnatsd.v1.Events/EmitStream": _EMIT,
    "walnatsd.v1.Events/Call": _EMIT,
    "request": _EMIT,
    "walnatsd.v1.Events/Monitor": _ACT,  # who sees payloads could as well be an actor
    "monitor": _ACT,
    "walnatsd.v1.Events/ListScheduled": _EMIT,
    "list-scheduled": _EMIT,
    "walnatsd.v1.Events/CancelScheduled": _EMIT,
    "cancel-scheduled": _EMIT,
    "walnatsd.v1.Actors/Register": _ACT,
    "walnatsd.v1.Actors/Listen": _ACT,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ANY,
    "describe": _ANY,
    "livez": _NONE,  # probes have no token; nor have those that ask the gRPC health service, which stands outside
    "readyz": _NONE,
    "enter-dashboard": _NONE,  # it leads there, and the dashboard asks who comes
}
_BEARER = "bearer"


def needed_for(operation: str) -> Scopes:
    """Give the scopes that open an operation, each of them alone; none where no token is needed.

    What does not stand in the table is for administrators: everything under `/admin/v1/`, and `/metrics` there.
    """
    return _NEEDS.get(operation, ADMIN)


@dataclass(frozen=True, slots=True)
class _Token:
    digest: bytes
    scopes: Scopes


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    authorization: str | None
    needed: Scopes
    end: Callable[[Refusal], None]


class Access:
    """The tokens that are valid now.

    Tokens are looked up and compared by a keyed digest whose key nobody knows, and the comparison takes the same time
    wherever they differ: how long a refusal takes tells nothing about a token.
    """

    def __init__(self, loaded: Loaded, metrics: Metrics) -> None:
        self._metrics = metrics
        self._key = chance.token_bytes(32)
        self._tokens: Mapping[bytes, _Token] = {}
        self._held: set[_Held] = set()
        self.use(loaded)

    def use(self, loaded: Loaded) -> None:
        """Take the tokens of another config from now on. Calls that last and that its tokens do not open are ended."""
        digests = [
            (self._digest(loaded.secrets.reveal(each.token)), frozenset(each.scopes))
            for each in loaded.config.auth.tokens
        ]
        self._tokens = {digest: _Token(digest, scopes) for digest, scopes in digests}
        for held in list(self._held):
            try:
                self._judge(held.authorization, held.needed)
            except Refusal as refusal:
                held.end(refusal)

    def check(self, authorization: str | None, needed: Scopes) -> None:
        """Let a call pass.

        Args:
            authorization: The value of the `authorization` header or metadata; None where there is none.
            needed: As `needed_for` gave it.

        Raises:
            Refusal: TOKEN or SCOPE. The message holds nothing of what was sent.
        """
        if not needed:
            return
        try:
            self._judge(authorization, needed)
        except Refusal as refusal:
            self._metrics.access_refused(refusal.reason).inc()
            raise

    def _judge(self, authorization: str | None, needed: Scopes) -> None:
        token = self._find(authorization)
        if token.scopes.isdisjoint(needed):
            raise Refusal(
                Reason.SCOPE,
                f"the token lacks the scope {_either(needed)}; it has {', '.join(sorted(token.scopes))}. Use a token of "
                "that scope, or add it to this one's scopes in auth.tokens",
            )

    @contextlib.contextmanager
    def holding(self, authorization: str | None, needed: Scopes, end: Callable[[Refusal], None]) -> Iterator[None]:
        """Let a call pass that lasts for as long as the body runs.

        Args:
            authorization: As of `check`.
            needed: As of `check`.
            end: Called where a reload takes the access away.

        Raises:
            Refusal: TOKEN or SCOPE.
        """
        self.check(authorization, needed)
        held = _Held(authorization, needed, end)
        self._held.add(held)
        try:
            yield
        finally:
            self._held.discard(held)

    def _find(self, authorization: str | None) -> _Token:
        if authorization is None:
            raise Refusal(
                Reason.TOKEN, "this call needs a token; send one of auth.tokens as the header `authorization: Bearer …`"
            )
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != _BEARER:
            raise Refusal(Reason.TOKEN, "the authorization is none by token; write it as `authorization: Bearer …`")
        digest = self._digest(value.strip())
        token = self._tokens.get(digest)
        if token is None or not hmac.compare_digest(token.digest, digest):
            raise Refusal(
                Reason.TOKEN, "the token is not one of auth.tokens; it is wrong, or was replaced by another one"
            )
        return token

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(errors="surrogatepass"), key=self._key, digest_size=32).digest()


def _either(scopes: Scopes) -> str:
    return " or ".join(sorted(scopes))
