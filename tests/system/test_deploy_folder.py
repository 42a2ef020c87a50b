"""The files in deploy/: units of systemd, the Helm chart, the rules of Prometheus and the dashboard of Grafana."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics.journal.journal import JOURNAL_KEY
from config.settings import Settings
from tests.support import stock_clients
from tests.support.programs import program
from tests.support.running_system import ROOT
from tests.support.stock_clients import finish, start

DEPLOY = ROOT / "deploy"
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
RULES = yaml.safe_load((DEPLOY / "prometheus/footfall.rules.yml").read_text())["groups"][0]["rules"]
ALERTS = [rule["alert"] for rule in RULES]
DASHBOARD = json.loads((DEPLOY / "grafana/footfall.json").read_text())


# systemd


def unit_of(name: str) -> dict[str, str]:
    text = (DEPLOY / f"systemd/footfall-{name}.service").read_text()
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@pytest.mark.parametrize("name", PROCFILE)
def test_a_unit_runs_what_the_procfile_runs_and_has_the_time_that_compose_gives_it(name: str):
    unit = unit_of(name)
    assert unit["ExecStart"].replace("%%", "%") == f"/opt/footfall/.venv/bin/{PROCFILE[name]}"
    assert f"{unit['TimeoutStopSec']}s" == COMPOSE[name]["stop_grace_period"]
    assert f"footfall-{name}.service" in (DEPLOY / "systemd/footfall.target").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine on which the units are installed."""
    units = tmp_path / "etc/systemd/system"
    shutil.copytree(DEPLOY / "systemd", units)
    for name in ("gunicorn", "python"):
        file = tmp_path / "opt/footfall/.venv/bin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/kill", tmp_path / "bin/kill")
    for name in ("network-online", "multi-user", "sysinit", "basic", "shutdown"):
        (units / f"{name}.target").write_text("[Unit]\nDescription=of the system\n")
    return tmp_path


def analyze(machine: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), f"--root={machine}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_reads_the_units_without_a_complaint(machine: Path):
    ran = analyze(machine, "verify", *(f"footfall-{name}.service" for name in PROCFILE), "footfall.target")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("name", PROCFILE)
def test_systemd_rates_a_unit_as_well_protected(name: str, machine: Path):
    """From 0, the best, to 10. systemd itself calls units below 2 safe, and those of most packages have more than 9."""
    ran = analyze(machine, "security", "--offline=true", "--threshold=20", "--no-pager", f"footfall-{name}.service")
    assert ran.returncode == 0, ran.stdout[-300:] + ran.stderr


# Prometheus and Grafana


def metrics() -> set[str]:
    """The names of all samples that Footfall's pages have, and Prometheus's own `up`."""
    code = (
        "from config import metrics as m; from prometheus_client.metrics import MetricWrapperBase as Base;"
        "ours = [x for x in vars(m).values() if isinstance(x, Base)];"
        "gauges = [*m.journal_gauges(0, 0), *m.segment_gauges(0, 0), m.dead_letter_gauge([]), m.store_gauge([])];"
        "kinds = {'counter': ['_total'], 'histogram': ['_bucket', '_sum', '_count']};"
        "print(*(x._name + end for x in ours for end in kinds[x._type]), *(g.name for g in gauges))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stdout.split()) | {"up"}


def named_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(footfall_\w+|up)\b(?=[\[{)\s]|$)", expression))


def test_rules_and_dashboard_use_metrics_that_exist_and_the_dashboard_shows_all_of_them():
    known = metrics()
    shown = {name for panel in DASHBOARD["panels"] for each in panel["targets"] for name in named_in(each["expr"])}
    for rule in RULES:
        assert named_in(rule["expr"]), rule["alert"]
        assert named_in(rule["expr"]) <= known, rule["alert"]
    assert shown <= known
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in known - {"up"}}
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in shown} == families


def test_the_panels_of_the_dashboard_do_not_overlap_and_choose_their_data_source():
    places = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not places & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_each_alert_has_its_entry_in_the_runbook_and_its_test():
    entries = re.findall(r"^## (Footfall\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert entries == ALERTS
    tests = yaml.safe_load((DEPLOY / "prometheus/footfall.test.yml").read_text())["tests"]
    assert {each["alertname"] for each in tests[0]["alert_rule_test"]} == set(ALERTS)
    fired = {each["alertname"] for each in tests[1]["alert_rule_test"] if each.get("exp_alerts")}
    assert fired == set(ALERTS)
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_prometheus_gives_each_alert_when_it_should_and_not_before():
    promtool = program("promtool", "prometheus")
    for words in (["check", "rules", "footfall.rules.yml"], ["test", "rules", "footfall.test.yml"]):
        ran = subprocess.run([promtool, *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


# Helm

VALUES: dict[str, Any] = {"keda": {"address": "redis.internal:6379"}}


@pytest.fixture(scope="module", autouse=True)
def helm() -> None:
    stock_clients.install()


def rendered(values: dict[str, Any], *versions: str) -> list[dict[str, Any]]:
    """The manifests of the chart, which fit the schemas of these versions of Kubernetes."""
    manifests: list[dict[str, Any]] = json.loads(finish(start("helm_chart.py", json.dumps(values), *versions)))
    return manifests


def refusal(values: dict[str, Any]) -> str:
    """What Helm says about values that it refuses."""
    _, said = (client := start("helm_chart.py", json.dumps(values))).communicate(timeout=60)
    assert client.returncode == 1
    return said


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    """What the chart renders to, by kind and the part of Footfall."""
    return {(each["kind"], component_of(each)): each for each in rendered(VALUES)}


def component_of(manifest: dict[str, Any]) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def pod_of(objects: dict[tuple[str, str], dict[str, Any]], component: str) -> dict[str, Any]:
    pod: dict[str, Any] = objects["Deployment", component]["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize(
    "values",
    [
        VALUES,
        {"keda": {"enabled": False}, "flower": {"enabled": False}, "networkPolicy": {"enabled": False}},
        {
            "keda": {"address": "redis:6379", "withAuthority": True},
            "authorityConfigMap": "authority",
            "image": {"repository": "r.example/footfall", "tag": "7", "pullSecrets": ["a"]},
            "settings": {"TRUSTED_PROXIES": 1, "LOG_LEVEL": "WARNING"},
            "networkPolicy": {
                "ingestFrom": [{"namespaceSelector": {}}],
                "flowerFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}],
                "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            },
        },
    ],
)
def test_the_manifests_fit_the_schemas_of_kubernetes(values: dict[str, Any]):
    assert len(rendered(values, "1.27", "1.37")) >= 9


def test_every_process_of_the_procfile_runs_and_gets_the_time_to_stop(objects: dict[tuple[str, str], dict[str, Any]]):
    assert {component for kind, component in objects if kind == "Deployment"} == set(PROCFILE)
    for name, line in PROCFILE.items():
        pod = pod_of(objects, name)
        (container,) = pod["containers"]
        assert container["command"] == shlex.split(line)
        drain = 10 if name in ("ingest", "report") else 0  # load balancers get time to notice
        assert pod["terminationGracePeriodSeconds"] == int(COMPOSE[name]["stop_grace_period"].rstrip("s")) + drain


@pytest.mark.parametrize("name", PROCFILE)
def test_a_container_has_few_rights_and_its_health_is_watched(
    name: str, objects: dict[tuple[str, str], dict[str, Any]]
):
    pod = pod_of(objects, name)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["livenessProbe"]
    assert ("readinessProbe" in container) == (("Service", name) in objects)
    assert container["resources"]["limits"]["memory"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"/tmp"} | ({"/var/lib/footfall"} if name in ("report", "worker") else set())  # noqa: S108
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


def test_secrets_are_references_and_never_values(objects: dict[tuple[str, str], dict[str, Any]]):
    assert not [kind for kind, _ in objects if kind == "Secret"]
    for name in PROCFILE:
        (container,) = pod_of(objects, name)["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "footfall"}}]
        assert {each["name"] for each in container["env"]} == {"APP_ENV", "BIND_HOST", "LOG_FORMAT"}
    assert "SECRET_KEY" in refusal(VALUES | {"settings": {"SECRET_KEY": "a-secret-for-tests-only"}})
    schema = json.loads((DEPLOY / "helm/footfall/values.schema.json").read_text())
    refused = schema["properties"]["settings"]["propertyNames"]["not"]["enum"]
    assert sorted(refused) == sorted(each.name.upper() for each in fields(Settings) if each.metadata["secret"])


def test_workers_are_scaled_by_waiting_events_and_ingestion_by_cpu(objects: dict[tuple[str, str], dict[str, Any]]):
    scaled = objects["ScaledObject", "worker"]["spec"]
    (trigger,) = scaled["triggers"]
    assert scaled["scaleTargetRef"]["name"] == objects["Deployment", "worker"]["metadata"]["name"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 10)
    assert trigger["type"] == "redis-streams"
    assert trigger["metadata"] == {
        "address": "redis.internal:6379",
        "stream": JOURNAL_KEY,
        "streamLength": "20000",
        "enableTLS": "true",
    }
    assert trigger["authenticationRef"]["name"] == objects["TriggerAuthentication", "worker"]["metadata"]["name"]
    assert "replicas" not in objects["Deployment", "worker"]["spec"]
    assert "replicas" not in objects["Deployment", "ingest"]["spec"]
    assert objects["HorizontalPodAutoscaler", "ingest"]["spec"]["metrics"][0]["resource"]["name"] == "cpu"
    assert "keda.address" in refusal({})


def test_each_journal_scales_the_workers():
    keda = VALUES["keda"] | {"furtherAddresses": ["redis-b.internal:6379"]}
    (scaled,) = [each for each in rendered(VALUES | {"keda": keda}) if each["kind"] == "ScaledObject"]
    first, second = scaled["spec"]["triggers"]
    assert (first["metadata"].pop("address"), second["metadata"].pop("address")) == (
        "redis.internal:6379", "redis-b.internal:6379",
    )  # fmt: skip
    assert first == second


def test_pods_are_not_taken_away_all_at_once(objects: dict[tuple[str, str], dict[str, Any]]):
    for name in ("ingest", "report", "worker"):
        budget = objects["PodDisruptionBudget", name]["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == objects["Deployment", name]["spec"]["selector"]


def test_pods_accept_only_what_they_serve_and_connect_only_to_stores(
    objects: dict[tuple[str, str], dict[str, Any]],
):
    ports = {}
    for name in PROCFILE:
        policy = objects["NetworkPolicy", name]["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert policy["podSelector"] == objects["Deployment", name]["spec"]["selector"]
        ports[name] = [port["port"] for rule in policy["ingress"] or [] for port in rule["ports"]]
        left = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
        outside = {443, 465, 587} if name in ("report", "worker") else set()
        assert left == {53, 6379, 27017} | outside
    assert ports == {"ingest": [3000], "report": [3001], "worker": [], "beat": [], "flower": []}


def test_a_value_that_does_not_exist_is_refused():
    assert "replica" in refusal(VALUES | {"worker": {"replica": 3}})


def test_each_value_is_in_the_readme():
    readme = (DEPLOY / "README.md").read_text()
    values = yaml.safe_load((DEPLOY / "helm/footfall/values.yaml").read_text())
    for name, value in values.items():
        for inner in value if isinstance(value, dict) and value else [""]:
            assert f"{inner or name}" in readme, f"{name}.{inner}"
