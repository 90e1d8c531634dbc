"""What an actor's messages are handed to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome


class Target(Protocol):
    """A webhook, or the listeners of the gRPC stream."""

    def credit(self) -> int:
        """How many attempts may be in flight at once, as far as the target has a say in it."""

    async def attempt(self, message: Message, attempt: int) -> Outcome:
        """Hand over a message for the given attempt, from 1.

        Never raises but when cancelled: whatever happens is an outcome.
        """


class HandoverTarget(Target, Protocol):
    """A target that takes a message at once and says later what came of it."""

    def hand_over(self, message: Message, attempt: int, ended: Callable[[Outcome], None]) -> None:
        """Hand over a message for the given attempt, from 1.

        `ended` is called with the outcome, once; maybe before this returns.
        """

    def take_back(self, message: Message) -> None:
        """Forget this very message, which was handed over: nobody wants to know any more what it comes to."""


class BatchTarget(Protocol):
    """A target that takes many messages at once."""

    def credit(self) -> int:
        """How many requests may be in flight at once, as far as the target has a say in it."""

    async def attempt_batch(
        self, items: Sequence[tuple[Message, int]], trace: Mapping[str, str]
    ) -> Outcome | list[Outcome]:
        """Hand over messages, each with the number of its attempt; `trace` has the trace context of the request.

        Gives an outcome per message, in order, or one where the answer is for the batch as a whole. Never raises but when cancelled: whatever happens is an outcome.
        """
