"""What actors and events work with, by the config that counts now."""

from functools import partial

from walnatsd.config.load import Loaded
from walnatsd.dispatch.actor_loop import Equipment
from walnatsd.dispatch.screen import Screen
from walnatsd.listeners.listeners import Listeners
from walnatsd.model.actor import Actor
from walnatsd.model.event import Codec, Event, Schema
from walnatsd.observe.metrics import Metrics
from walnatsd.payload.codecs import Codecs, open_codecs
from walnatsd.payload.schemas import PayloadSchema, open_schema
from walnatsd.webhook.http_client import HttpClient
from walnatsd.webhook.probe import why_not
from walnatsd.webhook.webhook import Webhook, calling


class Outfitter:
    """Makes the target and the screen of an actor, and the codecs of an event."""

    def __init__(self, client: HttpClient, loaded: Loaded, metrics: Metrics) -> None:
        self._client = client
        self._loaded = loaded
        self._metrics = metrics
        self._codecs: dict[tuple[Codec, ...], Codecs] = {}
        self._schemas: dict[Schema, PayloadSchema] = {}

    def use(self, loaded: Loaded) -> None:
        """Go by another config from now on."""
        self._loaded = loaded
        self._codecs = {}
        self._schemas = {}

    def equip(self, actor: Actor, event: Event) -> Equipment:
        """Give what the loop of an actor works with."""
        source = self._loaded.config.service.name
        target: Listeners | Webhook
        if actor.url is None:
            target, tls = Listeners(actor, self._metrics), None
        else:
            called = calling(actor, self._loaded.secrets, source=source)
            target, tls = Webhook(self._client, actor, called), called.tls
        return Equipment(
            target,
            Screen(actor, self.codecs_for(event.codecs), source=source),
            partial(why_not, self._client, actor.wait_for, tls) if actor.wait_for is not None else None,
        )

    def codecs_for(self, declared: tuple[Codec, ...]) -> Codecs:
        """Give the codecs of an event."""
        codecs = self._codecs.get(declared)
        if codecs is None:
            codecs = self._codecs[declared] = open_codecs(declared, self._loaded.secrets.reveal)
        return codecs

    def schema_for(self, declared: Schema) -> PayloadSchema:
        """Give the compiled schema of an event. That it can be used was tried when the config was loaded."""
        schema = self._schemas.get(declared)
        if schema is None:
            schema = self._schemas[declared] = open_schema(declared)
        return schema
