"""The Helm chart: Helm itself finds nothing wrong with it, and what comes out is as safe as the chart says."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_telemetry import settings
from tests.backends import builds

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "otel-telemetry"
GIVEN = ["--set", "existingSecret=keys"]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [builds.built(builds.HELM, "make e2e"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rendered(*arguments: str) -> dict[str, Any]:
    done = helm("template", "tele", CHART, *GIVEN, *arguments)
    assert done.returncode == 0, done.stderr
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}


def test_helm_finds_nothing_wrong() -> None:
    done = helm("lint", "--strict", CHART, *GIVEN)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_secret_it_says_what_is_missing() -> None:
    done = helm("template", "tele", CHART)
    assert done.returncode != 0
    assert "OTEL_TELEMETRY_GATEWAY__API_KEYS" in done.stderr


def test_the_pod_has_no_rights_it_does_not_need_probes_a_volume_and_settings_that_exist() -> None:
    stateful = rendered()["StatefulSet"]["spec"]
    pod = stateful["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    assert container["resources"]["limits"]["memory"]
    assert stateful["volumeClaimTemplates"][0]["metadata"]["name"] == "data"
    known = {settings.variable(name) for name, _ in settings.describe()}
    assert {variable["name"] for variable in container["env"]} <= known
    assert pod["terminationGracePeriodSeconds"] > settings.load().gateway.shutdown_seconds
    assert stateful["template"]["metadata"]["annotations"]["prometheus.io/scrape"] == "true"


def test_each_selector_finds_the_pod() -> None:
    found = rendered("--set", "serviceMonitor.enabled=true,serviceMonitor.bearerTokenSecret.name=token")
    labels = found["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    monitored = found["ServiceMonitor"]["spec"]
    assert monitored["selector"]["matchLabels"].items() <= found["Service"]["metadata"]["labels"].items()
    assert monitored["endpoints"][0]["authorization"]["credentials"] == {"name": "token", "key": "token"}


@pytest.mark.parametrize("part", ["networkPolicy.enabled", "scrapeAnnotations"])
def test_what_is_switched_off_is_not_there(part: str) -> None:
    text = helm("template", "tele", CHART, *GIVEN, "--set", f"{part}=false").stdout
    assert {"networkPolicy.enabled": "NetworkPolicy", "scrapeAnnotations": "prometheus.io"}[part] not in text


def found(text: str, kind: str, name: str) -> dict[str, Any]:
    (one,) = [one for one in yaml.safe_load_all(text) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    spec: dict[str, Any] = one["spec"]
    return spec


def role(pod: dict[str, Any]) -> list[str]:
    variables = pod["spec"]["containers"][0]["env"]
    return [one["value"] for one in variables if one["name"] == settings.variable("gateway.role")]


def test_pods_that_only_receive_share_the_spool_of_the_one_that_delivers_and_its_node() -> None:
    done = helm("template", "tele", CHART, *GIVEN, "--set", "receive.replicas=3")
    assert done.returncode == 0, done.stderr
    receive, deliver = found(done.stdout, "Deployment", "tele-receive"), found(done.stdout, "StatefulSet", "tele")
    pods = [receive["template"], deliver["template"]]
    assert receive["replicas"] == 3
    assert [role(pod) for pod in pods] == [["receive"], ["deliver"]]
    claims = [one["persistentVolumeClaim"]["claimName"] for one in pods[0]["spec"]["volumes"] if one["name"] == "data"]
    assert claims == [f"{deliver['volumeClaimTemplates'][0]['metadata']['name']}-tele-0"]
    for pod in pods:
        (together,) = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert together["topologyKey"] == "kubernetes.io/hostname"
        for other in pods:  # also itself: else the first of them could not be placed
            assert together["labelSelector"]["matchLabels"].items() <= other["metadata"]["labels"].items()
    taking, telling = found(done.stdout, "Service", "tele"), found(done.stdout, "Service", "tele-deliver")
    assert taking["selector"].items() <= pods[0]["metadata"]["labels"].items()
    assert not taking["selector"].items() <= pods[1]["metadata"]["labels"].items()
    assert telling["selector"].items() <= pods[1]["metadata"]["labels"].items()
    assert receive["selector"]["matchLabels"].items() <= pods[0]["metadata"]["labels"].items()


def test_affinity_of_the_values_is_kept_beside_it() -> None:
    given = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions"
    one = f"{given}[0].key=disk,{given}[0].operator=Exists"
    done = helm("template", "tele", CHART, *GIVEN, "--set", f"receive.replicas=1,{one}")
    assert done.returncode == 0, done.stderr
    affinity = found(done.stdout, "StatefulSet", "tele")["template"]["spec"]["affinity"]
    assert set(affinity) == {"nodeAffinity", "podAffinity"}


@pytest.mark.parametrize("mode", ["ReadWriteMany", "ReadWriteOncePod"])
def test_a_volume_that_the_pods_cannot_share_is_refused_with_the_next_step(mode: str) -> None:
    shape = f"receive.replicas=2,gateway.persistence.accessModes={{{mode}}}"
    done = helm("template", "tele", CHART, *GIVEN, "--set", shape)
    assert done.returncode != 0
    assert "ReadWriteOnce" in done.stderr
    assert "install the chart once for each" in done.stderr


def test_without_them_the_one_pod_does_it_all() -> None:
    done = rendered()
    assert "Deployment" not in done
    assert role(done["StatefulSet"]["spec"]["template"]) == []
    assert "affinity" not in done["StatefulSet"]["spec"]["template"]["spec"]


# --- topics in place of the volume ------------------------------------------------------------------------------------
KAFKA = "transport=kafka,kafka.brokers=kafka-1:9092,receive.replicas=3"


def documents(*arguments: str) -> dict[tuple[str, str], dict[str, Any]]:
    done = helm("template", "tele", CHART, *GIVEN, *arguments)
    assert done.returncode == 0, done.stderr
    return {(one["kind"], one["metadata"]["name"]): one["spec"] for one in yaml.safe_load_all(done.stdout) if one}


def test_with_kafka_receivers_and_deliverers_scale_apart_and_have_no_volume_and_no_node() -> None:
    made = documents("--set", f"{KAFKA},deliver.replicas=2,kafka.partitions=24")
    receive, deliver = (made["Deployment", f"tele-{part}"] for part in ("receive", "deliver"))
    assert (receive["replicas"], deliver["replicas"]) == (3, 2)
    assert not [kind for kind, _ in made if kind == "StatefulSet"]
    known = {settings.variable(name) for name, _ in settings.describe()}
    for part, deployment in (("receive", receive), ("deliver", deliver)):
        pod = deployment["template"]
        variables = {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}
        assert set(variables) <= known
        assert role(pod) == [part]
        assert variables[settings.variable("gateway.transport")] == "kafka"
        assert variables[settings.variable("gateway.kafka.brokers")] == "kafka-1:9092"
        assert variables[settings.variable("gateway.kafka.partitions")] == "24"
        assert all("persistentVolumeClaim" not in one for one in pod["spec"]["volumes"])
        assert "affinity" not in pod["spec"]
        budget = made["PodDisruptionBudget", f"tele-{part}"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    services = {name: made["Service", name]["selector"].items() for name in ("tele", "tele-deliver")}
    assert services["tele"] <= receive["template"]["metadata"]["labels"].items()
    assert services["tele-deliver"] <= deliver["template"]["metadata"]["labels"].items()
    assert not services["tele"] <= deliver["template"]["metadata"]["labels"].items()


def test_receivers_scale_by_their_cpu_and_deliverers_by_the_lag() -> None:
    scaled = "receive.autoscaling.enabled=true,deliver.autoscaling.enabled=true,deliver.autoscaling.lagSeconds=20"
    made = documents("--set", f"{KAFKA},{scaled}")
    for part in ("receive", "deliver"):
        assert "replicas" not in made["Deployment", f"tele-{part}"]
        scaler = made["HorizontalPodAutoscaler", f"tele-{part}"]
        assert scaler["scaleTargetRef"]["name"] == f"tele-{part}"
        assert scaler["minReplicas"] <= scaler["maxReplicas"]
    (cpu,) = made["HorizontalPodAutoscaler", "tele-receive"]["metrics"]
    (lag,) = made["HorizontalPodAutoscaler", "tele-deliver"]["metrics"]
    assert cpu["resource"]["name"] == "cpu"
    assert lag["pods"]["metric"]["name"] == "otel_telemetry_spool_lag_seconds"
    assert lag["pods"]["target"]["averageValue"] == "20"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("transport=pigeon", "transport"),
        ("transport=kafka,receive.replicas=1", "kafka.brokers"),
        ("transport=kafka,kafka.brokers=k:9092", "receive.replicas"),
        (f"{KAFKA},deliver.replicas=13", "12 partitions"),
        ("receive.replicas=1,receive.autoscaling.enabled=true", "receive.autoscaling"),
    ],
)
def test_a_shape_that_cannot_work_is_refused_and_named(given: str, problem: str) -> None:
    done = helm("template", "tele", CHART, *GIVEN, "--set", given)
    assert done.returncode != 0
    assert problem in done.stderr


@pytest.mark.parametrize("shape", ["", "receive.replicas=2", KAFKA])
def test_helm_finds_nothing_wrong_with_any_shape(shape: str) -> None:
    done = helm("lint", "--strict", CHART, *GIVEN, *(["--set", shape] if shape else []))
    assert done.returncode == 0, done.stdout + done.stderr
