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
