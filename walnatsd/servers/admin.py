"""The administration address and the monitoring address: health and metrics."""

from aiohttp import web

from walnatsd.api.access import Access
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import CONTENT_TYPE, Metrics
from walnatsd.servers.admin_operations import LIVEZ, METRICS, READYZ, SCHEMAS
from walnatsd.servers.administration import add_administration
from walnatsd.servers.answers import json_answer
from walnatsd.servers.dead_letters import add_dead_letters
from walnatsd.servers.door import Guard, application
from walnatsd.servers.office import Office
from walnatsd.servers.openapi import serve_description
from walnatsd.servers.operations import serve
from walnatsd.servers.spool import add_spool


def admin_app(health: Health, metrics: Metrics, office: Office, guard: Guard, access: Access | None) -> web.Application:
    """Build the application of the administration address: what the monitoring address answers, and administration."""
    app = monitoring_app(health, metrics, guard, access)
    add_administration(app, office)
    add_dead_letters(app, office)
    add_spool(app, office)
    serve_description(app, "walnatsd, administration", SCHEMAS)
    return app


def monitoring_app(
    health: Health, metrics: Metrics, guard: Guard | None = None, access: Access | None = None
) -> web.Application:
    """Build the application that answers /livez, /readyz and /metrics; without a guard and access, to everybody."""

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(body=b'{"status":"alive"}', content_type="application/json")

    async def readyz(_request: web.Request) -> web.Response:
        problems = health.problems
        body = {"status": "not ready" if problems else "ready", "problems": problems}
        return json_answer(body, status=503 if problems else 200)

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    app = application(guard, access)
    serve(app, LIVEZ, livez)
    serve(app, READYZ, readyz)
    serve(app, METRICS, show_metrics)
    return app
