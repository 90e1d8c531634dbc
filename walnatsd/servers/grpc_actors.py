"""The `Actors` service."""

from typing import Any

import grpc

from walnatsd.api.actors import Actors
from walnatsd.api.declarations import read_actor
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.servers.grpc_errors import refuse
from walnatsd.servers.grpc_events import declaration
from walnatsd.servers.grpc_listen import Context, Requests, converse, read_subscription
from walnatsd.v1 import actors_pb2, actors_pb2_grpc


class ActorsServicer(actors_pb2_grpc.ActorsServicer):
    """Translates between the `Actors` service and the use cases."""

    def __init__(self, actors: Actors) -> None:
        self._actors = actors

    async def Register(  # noqa: N802
        self, request: actors_pb2.RegisterActorsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> actors_pb2.RegisterActorsResponse:
        """Declare actors until the daemon stops, and start their dispatch."""
        try:
            actors = [read_actor(_declaration(actor)) for actor in request.actors]
            outcomes = await self._actors.register(actors)
        except Refusal as refusal:
            await refuse(context, refusal)
        return actors_pb2.RegisterActorsResponse(
            actors=[
                actors_pb2.RegisteredActor(
                    name=actor.name,
                    event=actor.event,
                    created=outcome.created,
                    updated=outcome.updated,
                    drift=outcome.drift,
                )
                for actor, outcome in zip(actors, outcomes, strict=True)
            ]
        )

    async def Listen(  # type: ignore[override]  # noqa: N802 - it writes to the context instead of yielding
        self, requests: Requests, context: Context
    ) -> None:
        """Serve an actor: deliveries down, results up."""
        try:
            subscribe = await read_subscription(requests)
            with self._actors.listen(
                subscribe.event, subscribe.actor, max_in_flight=subscribe.max_in_flight
            ) as session:
                await converse(session, requests, context)
        except Refusal as refusal:
            await refuse(context, refusal)


def _declaration(actor: actors_pb2.Actor) -> dict[str, Any]:
    """Write an actor as the config file would."""
    data = dict(declaration(actor))
    if actor.HasField("retry"):
        retry = dict(data["retry"])
        if retry.pop("unlimited", False):
            if "max_attempts" in retry:
                raise Refusal(
                    Reason.INVALID_DECLARATION,
                    f"the actor {actor.name!r} can't be registered: retry: unlimited and max_attempts exclude each other",
                )
            retry["max_attempts"] = None
        data["retry"] = retry
    if actor.HasField("order_by") and actor.order_by.HasField("pointer"):
        data["order_by"] = actor.order_by.pointer
    return data
