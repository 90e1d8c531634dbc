"""What is shipped for containers and Kubernetes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes"


def resources() -> Iterator[tuple[Path, dict[str, Any]]]:
    """All resources for Kubernetes, each with its file."""
    for file in sorted(KUBERNETES.glob("*.yaml")):
        for resource in yaml.safe_load_all(file.read_text()):
            yield file, resource


def resource(kind: str, name: str) -> Any:
    """The one of this kind and name."""
    [found] = [it for _, it in resources() if (it["kind"], it["metadata"]["name"]) == (kind, name)]
    return found


def compose_service(name: str) -> Any:
    return yaml.safe_load(COMPOSE.read_text())["services"][name]
