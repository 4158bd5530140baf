"""What the files of deploy/ and compose.yaml must say, whatever else they say."""

from __future__ import annotations

import re
import subprocess
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from domain.addresses import Proxies
from gateway.transport import HEARTBEAT_S
from ingest.http.middleware import ANSWER_S
from schemas.fields import MAX_UPLOAD
from schemas.topics import stages
from tests.fronts import FILES, KINDS, Front

ROOT = Path(__file__).parents[2]
SECONDS = {"ms": 0.001, "s": 1, "m": 60}
NODES = ["ingest-1:8080", "ingest-2:8080", "gateway-1:8081", "gateway-2:8081", "gateway-3:8081"]


def text(kind: str) -> str:
    """Without its comments."""
    return re.sub(r"^\s*#.*\n", "", FILES[kind].read_text(), flags=re.MULTILINE)


def seconds(kind: str, name: str) -> set[float]:
    """All values of a setting that is a time."""
    found = re.findall(rf"{re.escape(name)}\s+(\d+)(ms|s|m)\b", text(kind))
    return {int(number) * SECONDS[unit] for number, unit in found}


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_accepts_its_file(kind: str, tmp_path: Path):
    front = Front(kind, tmp_path, (), ())
    argv, env = front.command()
    done = subprocess.run([argv[0], {"haproxy": "-c", "nginx": "-t"}[kind], *argv[1:]], capture_output=True, env=env)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "ALERT" not in said
    # HAProxy warns of nodes that do not exist; of nothing else.
    assert [line for line in said.lower().splitlines() if "warn" in line and "could not resolve" not in line] == []


def test_heartbeats_fit_into_the_timeouts_of_both_fronts():
    sockets = text("nginx").partition("location = /ws {")[2].partition("}")[0]
    idle = [float(one) for one in re.findall(r"proxy_(?:read|send)_timeout (\d+)s", sockets)]
    assert len(idle) == 2
    assert min(*idle, *seconds("haproxy", "timeout tunnel")) >= 3 * HEARTBEAT_S


def test_a_node_answers_before_the_front_gives_up():
    answers = seconds("haproxy", "timeout server") | seconds("nginx", "proxy_read_timeout")
    assert min(answers) > 2 * ANSWER_S


def test_the_largest_upload_passes():
    haproxy = max(int(size) for size in re.findall(r"req\.body_size gt (\d+)", text("haproxy")))
    nginx = max(int(size) * 2**20 for size in re.findall(r"client_max_body_size (\d+)m", text("nginx")))
    assert MAX_UPLOAD < min(haproxy, nginx) < MAX_UPLOAD * 1.1


def test_no_log_holds_a_query_or_a_header():
    [format_] = re.findall(r"log-format (.*)", text("haproxy"))
    assert not re.search(r"%r\b|%HU|%HQ|%hr|%hs|capture|query|url\b", format_)
    [format_] = re.findall(r"log_format (.*?);", text("nginx"), re.DOTALL)
    assert not re.search(r"\$request\b|request_uri|args|query|http_|cookie", format_)
    assert re.findall(r"error_log \S+ (\w+);", text("nginx")) == ["crit"]  # below, whole request lines are logged


def test_all_places_call_the_nodes_the_same():
    assert re.findall(r"server \S+ \"\$\{\w+-([\w:-]+)\}\"", text("haproxy")) == NODES
    assert re.findall(r"server ((?:ingest|gateway)-\S+)", text("nginx")) == NODES
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for node in NODES:
        name, port = node.split(":")
        environment = services[name]["environment"]
        assert environment["MILLRACE_NODE"] == name
        assert environment["MILLRACE_HTTP__PORT" if name.startswith("ingest") else "MILLRACE_WS__PORT"] == port
        assert (environment["MILLRACE_OPS__HOST"], environment["MILLRACE_OPS__PORT"]) == ("0.0.0.0", "9100")
        assert "ports" not in services[name], "clients come through the front"
        assert Proxies.of(environment["MILLRACE_GATEWAY__TRUSTED_PROXIES"]).trusts(ip_address("172.18.0.5"))
    assert "./deploy/haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro" in services["front"]["volumes"]


def test_each_process_of_compose_has_the_login_of_its_role():
    """The owner of the database is for migrations, and for the logins."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    logins = {
        name: urlsplit(re.sub(r"\$\{\w+:\?[^}]*\}", "x", service["environment"]["MILLRACE_PG__DSN"])).username
        for name, service in services.items()
        if "MILLRACE_PG__DSN" in service.get("environment", {})
    }
    roles = {**dict.fromkeys(stages(), "streams"), "audit": "audit", "operator": "operator"}
    for node in NODES:
        name = node.partition(":")[0]
        roles[name] = name.rpartition("-")[0]
    assert logins == {"setup": "millrace", **{name: f"millrace_{role}_login" for name, role in roles.items()}}
