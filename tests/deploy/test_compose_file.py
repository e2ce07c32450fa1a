"""docker-compose.yml, by reading it: nothing open to the network, unpinned or missing, and no default secret."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_telemetry import settings
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import listen
from otel_telemetry.gateway.receive.auth import ROLES, Keys
from tests.company import pins

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCS = (ROOT / "docs" / "collector.md").read_text()
#: Variables of the files that the services read, with the folder of the service that sets them.
READ = re.compile(r"\$\{env:([A-Z_]+)|\$\{([A-Z_]+):-")
#: A whole version (PostgreSQL's has two numbers), and the digest: test_image_digests.py.
VERSION = re.compile(r"(postgres:\d+\.\d+|[^:@]+:v?\d+\.\d+\.\d+)(-[a-z0-9-]+)?(@sha256:[0-9a-f]{64})?")


#: What each image has to check its health with: read in its Dockerfile at the tag that is pinned. Those of the
#: Collector (scratch) and Loki (distroless) have neither shell nor wget; Loki's program checks itself since 3.6.5.
PROGRAMS = {
    "otel-telemetry": "python",  # python:*-slim
    "otel-telemetry-collector": "/bin/wget",  # busybox's, copied
    "postgres": "pg_isready",
    "redis": "redis-cli",
    "jaegertracing/jaeger": "wget",  # alpine's
    "grafana/loki": "/usr/bin/loki",
    "prom/prometheus": "wget",  # busybox's
    "grafana/grafana": "wget",  # alpine's
}
#: The folder of each image that belongs to its user: a new named volume takes its owner over.
WRITABLE = {
    "otel-telemetry": "/data",
    "otel-telemetry-collector": "/var/lib/otelcol",
    "postgres": "/var/lib/postgresql/data",  # to 17: 18's is one level up
    "redis": "/data",
    "jaegertracing/jaeger": "/tmp",  # noqa: S108 - the only one that all may write to
    "grafana/loki": "/loki",
    "prom/prometheus": "/prometheus",
    "grafana/grafana": "/var/lib/grafana",
}


def volumes(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (what, where) of each volume; `what` is a file's path, or a name."""
    plain = (re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", volume) for volume in service["volumes"])
    return [(what, where) for what, where, *_ in (volume.split(":") for volume in plain)]


def each_service() -> Any:
    return pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())


def test_these_are_the_services():
    assert set(SERVICES) == {
        "gateway", "collector", "redis", "postgres", "prometheus", "loki", "grafana", "jaeger",
    }  # fmt: skip


@each_service()
def test_each_image_has_a_whole_version(service):
    assert VERSION.fullmatch(service["image"]), service["image"]
    if "build" in service:
        text = (ROOT / service["build"] / "Dockerfile").read_text()
        images = re.findall(r"^(?:FROM |ARG \w+_IMAGE=)([^\s$]+)", text, re.MULTILINE)
        assert images
        for image in images:
            assert VERSION.fullmatch(image), image


@each_service()
def test_each_port_is_open_on_loopback_alone(service):
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


def test_the_door_for_clean_data_and_the_databases_are_open_to_nobody_outside():
    inside = [port.rsplit(":", 1)[1] for service in SERVICES.values() for port in service.get("ports", ())]
    assert SERVICES["collector"]["environment"]["COLLECTOR_CLEAN_PORT"] not in inside
    assert not {"postgres", "loki"} & {name for name, service in SERVICES.items() if "ports" in service}


@each_service()
def test_each_service_has_a_health_check_and_keeps_its_data_in_a_volume(service):
    health = service["healthcheck"]
    assert health["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "start_period"} <= set(health)
    named = [volume.split(":")[0] for volume in service["volumes"] if not volume.startswith((".", "$"))]
    assert named
    assert set(named) <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_each_health_check_runs_a_program_that_is_in_the_image(name):
    service = SERVICES[name]
    program = service["healthcheck"]["test"][1].split()[0]
    assert program == PROGRAMS[service["image"].split(":")[0]]
    if program == "/bin/wget":  # there is none in the official image, nor a shell: ours puts it there
        assert f"/bin/busybox {program}\n" in (ROOT / service["build"] / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_each_volume_is_where_the_image_s_user_may_write(name):
    service = SERVICES[name]
    (folder,) = (where for what, where in volumes(service) if what in COMPOSE["volumes"])
    assert folder == WRITABLE[service["image"].split(":")[0]]
    if "build" in service:
        text = (ROOT / service["build"] / "Dockerfile").read_text()
        assert re.search(rf"(-o telemetry -m 0700|--chown=10001:10001 \S+) {folder}$", text, re.MULTILINE)
    for variable, value in service.get("environment", {}).items():
        if variable.endswith("_DIR"):
            assert f"{value}/".startswith(f"{folder}/"), variable


def test_who_needs_another_waits_until_it_is_healthy_and_nobody_waits_in_a_circle():
    needs = {name: set(service.get("depends_on", ())) for name, service in SERVICES.items()}
    for service in SERVICES.values():
        for condition in service.get("depends_on", {}).values():
            assert condition == {"condition": "service_healthy"}
    assert needs["gateway"] == {"postgres", "redis"}
    assert needs["collector"] == {"gateway"}, "the gateway keeps what it has for the Collector, not the other way round"
    while needs:
        ready = {name for name, others in needs.items() if not others & set(needs)}
        assert ready, f"a circle: {needs}"
        needs = {name: others for name, others in needs.items() if name not in ready}


def test_the_gateway_has_the_time_to_deliver_before_it_is_killed():
    seconds = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
    assert seconds > GatewaySettings().shutdown_seconds


@each_service()
def test_each_file_that_is_mounted_exists_and_cannot_be_written_to(service):
    for volume in service["volumes"]:
        source, _, mode = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", volume).partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode.endswith(":ro"), volume


def test_each_secret_is_asked_for_by_name_and_has_no_default():
    secrets = re.findall(r"\$\{([A-Z_0-9]+)(:[^}]*)?\}", TEXT)
    required = {name for name, rest in secrets if rest.startswith(":?")}
    assert required == {
        "GATEWAY_API_KEY", "GATEWAY_API_KEY_SHA256", "GATEWAY_READ_KEY_SHA256",
        "PSEUDONYM_SECRET", "POSTGRES_PASSWORD", "READER_PASSWORD",
        "REDIS_PASSWORD", "GRAFANA_PASSWORD",
    }  # fmt: skip
    for name, rest in secrets:
        if name in required:
            assert rest == f":?set {name} in .env"
    assert {name for name, _ in secrets} - required == {"COLLECTOR_CONFIG", "COST_BUDGET_PER_DAY_USD"}


def given_for(name: str) -> str:
    """Return a value for a variable of .env; the digest of a key is that of the key."""
    value = f"{name.removesuffix('_SHA256')}-0123456789"
    return hashlib.sha256(value.encode()).hexdigest() if name.endswith("_SHA256") else value


@each_service()
def test_each_service_has_no_rights_or_room_that_it_does_not_need(service):
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["mem_limit"]
    assert 0 < service["pids_limit"] <= 512
    assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}


def test_no_password_is_on_a_command_line():
    for service in SERVICES.values():
        for word in [*service.get("command", []), *service["healthcheck"]["test"]]:
            assert not re.search(r"(?<!\$)\$\{?[A-Z_]*(PASSWORD|KEY|SECRET|AUTH)", str(word))


def test_the_gateway_can_use_what_it_is_given_and_its_keys_do_no_more_than_they_must(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in SERVICES["gateway"]["environment"].items():
        value = re.sub(r"\$\{([A-Z_]+):-([^}]*)\}", r"\2", value)  # noqa: PLW2901 - what is optional is not given
        monkeypatch.setenv(name, re.sub(r"\$\{([A-Z_0-9]+)[^}]*\}", lambda found: given_for(found[1]), value))
    given = settings.load()
    assert given.request_log.cost_budget_per_day_usd is None
    assert given.forward["collector"].protocol == "grpc"
    assert given.request_log.url.startswith("postgresql://telemetry:POSTGRES_PASSWORD-")
    keys = Keys(given.gateway.api_keys)
    may = {
        name: {role for role in ROLES if keys.admit({"x-api-key": f"{name}-0123456789"}.get, role)}
        for name in ("GATEWAY_API_KEY", "GATEWAY_READ_KEY")
    }
    assert may == {"GATEWAY_API_KEY": {"ingest", "cache"}, "GATEWAY_READ_KEY": {"read"}}


def test_each_variable_is_explained_where_it_is_set_and_in_the_docs():
    head = TEXT[: TEXT.index("name:")]
    for name in set(re.findall(r"\$\{([A-Z_0-9]+)", TEXT)):
        assert f"# {name} " in head, name
        assert f"`{name}`" in DOCS, name


@pytest.mark.parametrize(
    ("service", "file"),
    [
        ("collector", "collector-config.yaml"),
        ("collector", "deploy/collector/gateway-first.yaml"),
        ("jaeger", "deploy/jaeger/jaeger.yaml"),
        ("loki", "deploy/loki/loki.yaml"),
    ],
)
def test_each_variable_of_a_file_is_documented_and_none_is_set_that_is_not_read(service, file):
    text = (ROOT / file).read_text()
    read = {name for pair in READ.findall(text) for name in pair if name}
    for name in read:
        assert f"`{name}`" in DOCS, name
    if file != "deploy/collector/gateway-first.yaml":  # reads fewer
        assert set(SERVICES[service]["environment"]) <= read
    for name, default in re.findall(r"([A-Z_]+_HOST):-([^}]*)", text):
        assert default == "127.0.0.1", name


def test_services_listen_on_the_ports_where_others_look_for_them():
    collector, jaeger = SERVICES["collector"]["environment"], SERVICES["jaeger"]["environment"]
    assert collector["JAEGER_ENDPOINT"] == f"jaeger:{jaeger['JAEGER_OTLP_PORT']}"
    forward = SERVICES["gateway"]["environment"]["OTEL_TELEMETRY_FORWARD__COLLECTOR__ENDPOINT"]
    assert forward == f"http://collector:{collector['COLLECTOR_CLEAN_PORT']}"
    prometheus = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    for target in (collector["COLLECTOR_METRICS_PORT"], collector["COLLECTOR_SELF_PORT"]):
        assert f'"collector:{target}"' in prometheus
    (secret,) = SERVICES["prometheus"]["secrets"]
    assert f"credentials_file: /run/secrets/{secret['source']}" in prometheus
    assert COMPOSE["secrets"][secret["source"]] == {"environment": "GATEWAY_READ_KEY"}
    assert secret["mode"] & 0o004, "the image's user is nobody"


def test_grafana_reads_each_store_and_leads_from_traces_to_logs_and_back():
    file = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "datasources.yaml"
    sources = {source["uid"]: source for source in yaml.safe_load(file.read_text())["datasources"]}
    assert set(sources) == {"prometheus", "loki", "jaeger", "rows"}
    for source in sources.values():
        host = source["url"].removeprefix("http://").split(":")[0]
        assert host in SERVICES
    assert sources["jaeger"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert sources["loki"]["jsonData"]["derivedFields"][0]["datasourceUid"] == "jaeger"
    password = sources["rows"]["secureJsonData"]["password"]
    assert password.removeprefix("$") in SERVICES["grafana"]["environment"]


def test_the_collector_is_the_version_that_the_end_to_end_tests_build_and_jaeger_no_older_one():
    go = ROOT / "tests" / "backends" / "go"
    collector = re.findall(r"version: (\S+)", (go / "collector" / "builder.yaml").read_text())
    assert SERVICES["collector"]["image"].endswith(f":{collector[0]}")
    assert f"contrib:{collector[0]}@" in (ROOT / "deploy" / "collector" / "Dockerfile").read_text()
    (version,) = re.findall(r"v[\d.]+ and v([\d.]+) are tags of one commit", (go / "jaeger" / "go.mod").read_text())
    (ours,) = re.findall(r"jaegertracing/jaeger:([\d.]+)@", SERVICES["jaeger"]["image"])
    built, named = (tuple(map(int, each.split("."))) for each in (version, ours))
    assert built[0] == named[0], "Jaeger's configuration is another one"
    assert built <= named


def test_the_gateway_s_image_runs_as_nobody_in_particular_and_has_a_health_check():
    text = (ROOT / "Dockerfile").read_text()
    last = text[text.rindex("FROM ") :]
    assert re.search(r"^USER (?!root)\w+$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last


def copied() -> set[str]:
    """Return what the gateway's Dockerfile copies from the repository."""
    text = (ROOT / "Dockerfile").read_text()
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    return {name for line in lines for name in line.split()}


def test_only_what_the_gateway_s_image_is_made_of_gets_into_its_build():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*", "all that lies about would go along: spools, databases, .env"
    assert {line[1:] for line in lines if line.startswith("!")} == copied()
    assert all((ROOT / name).exists() for name in copied())


def test_the_gateway_s_image_is_given_all_that_the_package_is_made_of():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert SERVICES["gateway"]["image"] == f"otel-telemetry:{project['project']['version']}"
    assert {"setup.py", "README.md", *project["project"]["license-files"]} <= copied()
    elsewhere = project["tool"]["setuptools"]["package-dir"]
    for package in project["tool"]["setuptools"]["packages"]:
        folder = Path(elsewhere.get(package) or package.replace(".", "/"))
        assert folder.parts[0] in copied(), package


def test_the_gateway_s_image_has_the_versions_that_the_tests_run_with_and_only_what_the_gateway_needs():
    installs = re.findall(r"pip install (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert all("--require-hashes" in install or "--no-deps" in install for install in installs)
    extras = pins.IMAGE_EXTRAS
    url = SERVICES["gateway"]["environment"]
    assert ("postgres" in extras) == url["OTEL_TELEMETRY_REQUEST_LOG__URL"].startswith("postgresql:")
    assert ("redis" in extras) == url["OTEL_TELEMETRY_CACHE__URL"].startswith("redis:")


def test_the_gateway_s_image_listens_for_others_only_with_keys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "Dockerfile").read_text()
    for name, value in re.findall(r"(OTEL_TELEMETRY_[A-Z_]+)=(\S+)", text):
        monkeypatch.setenv(name, value)
    bare = settings.load().gateway
    assert bare.host == "0.0.0.0"
    with pytest.raises(ConfigurationError, match=r"gateway\.api_keys"):
        listen.require_keys_off_loopback(bare)
    monkeypatch.setenv("OTEL_TELEMETRY_GATEWAY__API_KEYS", '["read:0123456789abcdef"]')
    listen.require_keys_off_loopback(settings.load().gateway)


def test_the_gateway_s_image_keeps_its_data_where_its_user_may_write():
    text = (ROOT / "Dockerfile").read_text()
    (user, folder) = re.search(r"install -d -o (\w+) -m 0700 (\S+)$", text, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert f"--uid 10001 --home-dir {folder} {user} " in text
    assert "USER 10001\n" in text, "Kubernetes tells only from a number that it is not root"
    assert f"gateway-data:{folder}" in SERVICES["gateway"]["volumes"]
    assert text.index(f"-m 0700 {folder}") < text.index(f"VOLUME {folder}"), "what is made later is not in the volume"
    for path in re.findall(r"__(?:SPOOL_DIR|URL)=(?:sqlite:///)?(\S+?)(?: |$)", text, re.MULTILINE):
        assert path.startswith(f"{folder}/"), path
