"""An OpenAPI description, held against what is really answered."""

import functools
import json
import re
from typing import Any, cast

from jsonschema import Draft202012Validator

from support.daemon import Sidecar
from walnatsd.api.events import Events
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics
from walnatsd.servers.admin import admin_app
from walnatsd.servers.admin_operations import SCHEMAS as ADMIN_SCHEMAS
from walnatsd.servers.door import Guard
from walnatsd.servers.http import http_app
from walnatsd.servers.http_operations import SCHEMAS
from walnatsd.servers.office import Office
from walnatsd.servers.openapi import describe


class Description:
    """A description that was read from a server."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def operation(self, method: str, path: str) -> tuple[str, dict[str, Any]]:
        """The operation that a request is for, and the template of its path."""
        bare = path.partition("?")[0]
        exact_first = sorted(self.data["paths"], key=lambda template: template.count("{"))
        for template in exact_first:
            if re.fullmatch(re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(template)), bare):
                assert method in self.data["paths"][template], f"{method} {template} is not described"
                return template, self.data["paths"][template][method]
        raise AssertionError(f"no path is described that is like {bare}")

    def see_answer(self, method: str, path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[str, str]:
        """See that an answer is one that the description has; give the operation that it was."""
        template, operation = self.operation(method, path)
        answer = operation["responses"].get(str(status))
        assert answer is not None, f"{method} {template} may not answer {status}: {body!r}"
        media_type = headers.get("Content-Type", "").partition(";")[0]
        content = answer.get("content", {})
        if not content or method == "head":
            assert not body
            return method, template
        assert {media_type, "*/*"} & set(content), f"{media_type} is not in {set(content)}"
        schema = content[media_type if media_type in content else "*/*"]["schema"]
        if media_type.endswith("json"):
            rooted = {"components": self.data.get("components", {}), **schema}
            Draft202012Validator(rooted).validate(json.loads(body))
        if status in (429, 503):
            assert headers["Retry-After"].isdecimal()
        return method, template


class _NoUseCases:
    """Stands for the use cases where only paths are looked at."""

    def __getattr__(self, _name: str) -> "_NoUseCases":
        return self


@functools.cache
def http_description() -> Description:
    """The description of the HTTP address, without a daemon."""
    app = http_app(cast("Events", _NoUseCases()), Guard("127.0.0.1:0", ()), None, source="tests")
    return Description(describe(app, "walnatsd", SCHEMAS))


@functools.cache
def admin_description() -> Description:
    """The same of the admin address."""
    app = admin_app(Health(), Metrics(), Office(), Guard("127.0.0.1:0", ()), None)
    return Description(describe(app, "walnatsd", ADMIN_SCHEMAS))


async def read_description(sidecar: Sidecar, address: str = "", *, token: str = "") -> Description:
    """Read the description of the HTTP address, or of another one."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with sidecar.session.get(f"http://{address or sidecar.http}/openapi.json", headers=headers) as response:
        assert response.status == 200
        return Description(await response.json())
