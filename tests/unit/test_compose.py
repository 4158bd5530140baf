"""compose.yaml runs what there is, with any password; nothing is open to the world, root, or restarted for ever."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from psycopg.conninfo import conninfo_to_dict

from runtime.metrics import BY_ROLE, registry_of
from runtime.settings import Settings
from runtime.variables import PREFIX
from schemas.topics import load, stages
from stack.topology import cluster, module_of, role
from tests.checkout import ROOT
from tests.compose_file import FILE, REQUIRED, VARIABLE, Missing, load_compose
from tests.unit.test_settings import all_documented

PASSWORD = "p@s/s%w:o?r#d&$HOME ${X}'\"\\ü"
GIVEN = {name: f"{name.lower()}-{PASSWORD}" for name in REQUIRED}
COMPOSE = load_compose(GIVEN)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image", "").startswith("millrace:")}
PROCESSES = {name: service for name, service in OURS.items() if service["command"][0] == "python"}
"""Services that run until they are stopped."""
ONCE = {"setup", "logins"}
PROMETHEUS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "millrace.json").read_text())


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_every_secret_must_be_given(name: str):
    with pytest.raises(Missing, match=f"set {name}"):
        load_compose({other: value for other, value in GIVEN.items() if other != name})


def test_the_head_of_the_file_names_every_secret():
    head = FILE.read_text().partition("\nname:")[0]
    assert {name for name in REQUIRED if name in head} == REQUIRED


def test_every_other_variable_has_a_default_and_is_documented():
    page = (ROOT / "docs" / "operating.md").read_text()
    found = {match["name"]: match["how"] for match in VARIABLE.finditer(_without_comments()) if match["name"]}
    assert {name for name, how in found.items() if how == ":?"} == REQUIRED
    assert {name for name, how in found.items() if how is None} == set()
    assert {name for name in found if f"`{name}`" not in page} == set()


def _without_comments() -> str:
    return "\n".join(line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#"))


def test_the_processes_are_those_of_the_stack():
    def modules(commands: list[list[str]]) -> list[tuple[str, ...]]:
        return sorted(tuple(command[2:]) for command in commands)

    topology = cluster(is_proxied=True)
    once = [name for name in topology.workers if name.endswith("-1")]  # a worker of a stage can be scaled
    expected = [["python", "-m", *module_of(name)] for name in (*topology.ingests, *topology.gateways, *once, "audit")]
    assert modules([service["command"] for service in PROCESSES.values()]) == modules(expected)
    nodes = [service["environment"]["MILLRACE_NODE"] for service in PROCESSES.values()]
    assert len(set(nodes)) == len(nodes)


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_settings_of_each_process_are_known_and_valid(name: str, monkeypatch: pytest.MonkeyPatch):
    environment = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
    known = {setting.variable for setting in all_documented()}
    assert {key for key in environment if key.startswith(PREFIX)} <= known
    for variable in [key for key in os.environ if key.startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert settings.auth.secret.get_secret_value() == GIVEN["MILLRACE_SECRET"]
    assert settings.kafka.bootstrap == "kafka:9092" and "kafka" in SERVICES
    ports = {settings.ops.port, settings.http.port, settings.ws.port}
    assert len(ports) == 3 and 0 not in ports


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_process_has_the_login_of_its_role_with_any_password(name: str):
    environment = SERVICES[name]["environment"]
    module = SERVICES[name]["command"][2:]
    kind = {"setup": "owner", "operator": "operator"}.get(name) or {"streams": "streams"}.get(module[0], module[0])
    login = "millrace" if kind == "owner" else f"millrace_{kind}_login"
    variable = "POSTGRES_PASSWORD" if kind == "owner" else f"{kind.upper()}_PASSWORD"
    assert environment["PGPASSWORD"] == GIVEN[variable]
    place = {"user": login, "port": "5432", "dbname": "millrace"}
    assert conninfo_to_dict(environment["MILLRACE_PG__DSN"]) == {**place, "host": "postgres"}
    if kind in {"ingest", "gateway", "audit"}:
        assert conninfo_to_dict(environment["MILLRACE_PG__REPLICA_DSN"]) == {**place, "host": "postgres-replica"}
    else:
        assert "MILLRACE_PG__REPLICA_DSN" not in environment


def test_passwords_reach_postgresql_as_they_are_and_no_command_line():
    primary, replica, logins = SERVICES["postgres"], SERVICES["postgres-replica"], SERVICES["logins"]
    assert primary["environment"]["POSTGRES_PASSWORD"] == logins["environment"]["PGPASSWORD"]
    assert replica["environment"]["PGPASSWORD"] == logins["environment"]["REPLICATION_PASSWORD"]
    assert conninfo_to_dict(replica["environment"]["PRIMARY"])["user"] == "millrace_replica"
    asked = set(
        re.findall(r"\\getenv \w+ (\w+)", _text("deploy/logins.sql") + _text("deploy/compose/replica-login.sql"))
    )
    assert {name: logins["environment"][name] for name in asked} == {name: GIVEN[name] for name in asked}
    for name, service in SERVICES.items():
        spoken = json.dumps([service.get(key) for key in ("command", "entrypoint", "healthcheck")], ensure_ascii=False)
        assert "p@s/s" not in spoken, name


def _text(path: str) -> str:
    return (ROOT / path).read_text()


def test_kafka_makes_no_topics_and_has_as_many_copies_as_there_are_brokers():
    environment = SERVICES["kafka"]["environment"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    brokers = sum(service["image"].startswith("apache/kafka:") for service in SERVICES.values())
    assert max(topic.replication for topic in load()) > brokers, "else setup needs no --replication"
    assert SERVICES["setup"]["command"] == ["millrace", "setup", "--replication", str(brokers)]
    copies = {value for key, value in environment.items() if key.endswith(("_REPLICATION_FACTOR", "_MIN_ISR"))}
    assert copies == {brokers}


def test_kafka_names_itself_to_each_side_as_that_side_must_call_it():
    def listeners(name: str, **more: str) -> dict[str, str]:
        listed = load_compose({**GIVEN, **more})["services"]["kafka"]["environment"][name]
        return dict(each.split("://") for each in listed.split(","))

    assert listeners("KAFKA_ADVERTISED_LISTENERS") == {"INSIDE": "kafka:9092", "OUTSIDE": "127.0.0.1:9094"}
    outside = listeners("KAFKA_ADVERTISED_LISTENERS", KAFKA_OUTSIDE_HOST="kafka.example", KAFKA_OUTSIDE_PORT="19094")
    assert outside["OUTSIDE"] == "kafka.example:19094"
    environment = SERVICES["kafka"]["environment"]
    assert set(listeners("KAFKA_LISTENERS")) == {
        each.partition(":")[0] for each in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    }
    assert environment["KAFKA_INTER_BROKER_LISTENER_NAME"] == "INSIDE"
    assert SERVICES["kafka"]["ports"] == ["127.0.0.1:9094:9094"]


def test_only_fronts_are_published_and_only_on_this_machine_unless_told_otherwise():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"front", "kafka", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert 'bind "${FRONT_BIND-:8080}"' in _text("deploy/haproxy.cfg") and published["front"][0].endswith(":8080")
    assert "FRONT_BIND" not in SERVICES["front"].get("environment", {})


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_health_is_readiness_at_the_operator_port(name: str):
    service = PROCESSES[name]
    [*_, check] = service["healthcheck"]["test"]
    assert f"http://127.0.0.1:{service['environment']['MILLRACE_OPS__PORT']}/readyz" in check
    assert 'Route("/readyz"' in _text("runtime/health.py")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_has_a_version_and_every_server_a_check(name: str):
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+[\w.-]*$|@sha256:[0-9a-f]{64}$", service["image"]), service["image"]
    assert ("build" in service) == (name == "setup"), "one image, built once"
    if name not in {*ONCE, "operator"}:
        assert "test" in service["healthcheck"]


def test_the_image_can_be_taken_from_a_registry():
    image = "registry.example/millrace@sha256:" + "0" * 64
    services = load_compose({**GIVEN, "MILLRACE_IMAGE": image})["services"]
    assert {services[name]["image"] for name in OURS} == {image}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_nothing_restarts_for_ever_that_cannot_work(name: str):
    service = SERVICES[name]
    if name in ONCE:
        assert re.fullmatch(r"on-failure:\d+", service["restart"])
    elif name == "operator":
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"  # also after a restart of the machine
    if name in PROCESSES:
        assert service["entrypoint"] == ["sh", "deploy/hold.sh"]


def test_no_process_of_ours_is_root_or_may_become_it():
    dockerfile = _text("Dockerfile")
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["10001"]
    assert "--uid 10001" in dockerfile and "deploy/hold.sh" in dockerfile
    for name, service in SERVICES.items():
        assert service.get("user") in {None, "postgres"} and not service.get("privileged"), name
        if name in OURS:
            assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])


def test_what_is_mounted_or_waited_for_exists():
    for name, service in SERVICES.items():
        waits = service.get("depends_on", ())
        assert set(waits) <= set(SERVICES), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"], (name, volume)
    for name, service in PROCESSES.items():
        assert service["depends_on"] == {"logins": {"condition": "service_completed_successfully"}}, name


# Monitoring


def test_every_process_is_scraped_under_its_role():
    scraped = {
        target: job["job_name"]
        for job in PROMETHEUS["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }
    kinds = {name: "stage" if role(name) in stages() else role(name) for name in PROCESSES}
    ours = {f"{name}:{PROCESSES[name]['environment']['MILLRACE_OPS__PORT']}": kind for name, kind in kinds.items()}
    assert scraped == {**ours, "front:9101": "front"}
    assert SERVICES["front"]["environment"]["FRONT_OPS_BIND"] == ":9101"
    assert set(kinds.values()) == set(BY_ROLE)
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]


def _known() -> dict[str, frozenset[str]]:
    """Names of samples, each with the labels that it has."""
    found = {"process_resident_memory_bytes": frozenset[str]()}
    for kind in BY_ROLE:
        registry: CollectorRegistry = registry_of(kind)
        for collector in registry._collector_to_names:
            for name in registry._collector_to_names[collector]:
                found[name] = frozenset(getattr(collector, "_labelnames", ()))
    return found


EXPRESSIONS = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_alerts_and_dashboards_ask_for_metrics_and_labels_that_there_are(expression: str):
    known = _known()
    named = set(re.findall(r"\b(?:millrace|process)_\w+", expression))
    assert named <= known.keys()
    assert named or "up ==" in expression
    labels = {name.strip() for names in re.findall(r"by \(([^)]*)\)", expression) for name in names.split(",")}
    labels |= set(re.findall(r"[{,](\w+)=", expression))
    assert labels <= {"job", "instance", "le"}.union(*(known[name] for name in named))


def test_texts_of_alerts_use_labels_that_are_left():
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            kept = re.findall(r"by \((\w+)\)", rule["expr"])
            for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
                assert label in kept or not re.search(r"\b(sum|max)\b", rule["expr"]), rule["alert"]


# hold.sh


Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Run a command as in a container; nothing is left of it at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(*command: str) -> subprocess.Popen[str]:
        script = ["sh", ROOT / "deploy" / "hold.sh", *command]
        running.append(subprocess.Popen(script, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return running[-1]

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("code", [0, 1, 75])
def test_the_exit_code_of_a_process_is_that_of_its_container(hold: Hold, code: int):
    assert hold("sh", "-c", f"exit {code}").wait(20) == code


def test_a_process_whose_settings_are_wrong_holds_its_container_until_it_is_stopped(hold: Hold):
    held = hold("sh", "-c", "exit 78")
    assert held.stdout is not None
    assert json.loads(held.stdout.readline())["event"] == "container_held"
    assert held.poll() is None
    held.terminate()
    assert held.wait(20) == 78


def test_a_stop_reaches_the_process_and_waits_for_its_end(hold: Hold, tmp_path: Path):
    script = f"trap 'touch {tmp_path}/told; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    held = hold("sh", "-c", script)
    assert held.stdout is not None and held.stdout.readline() == "ready\n"
    held.terminate()
    assert held.wait(20) == 7
    assert (tmp_path / "told").exists()
