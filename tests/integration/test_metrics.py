"""/metrics: who may read it, that it is what Prometheus reads, that each number follows what happens, and that what is made of it (the dashboard,
the alerts, the page in doc/) names nothing that is not there."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from client import Fleet
from conftest import BUILD, soon
from enrolment import PATH, enrolled

ROOT = pathlib.Path(__file__).parents[2]
UNCONFINED = "sandbox" in os.environ.get("MUSTER_TEST_CONFIG", "")


def page(server, **options):
    answer = server.api("GET", "/metrics", **options)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.body.decode()


class Numbers:
    def __init__(self, server):
        self.families = {f.name: f for f in text_string_to_metric_families(page(server))}
        self.samples = {}
        for f in self.families.values():
            for s in f.samples:
                key = (s.name, tuple(sorted(s.labels.items())))
                assert key not in self.samples, f"{key} twice"
                self.samples[key] = s.value

    def __call__(self, name, /, **labels):
        """The sum of the series that have these labels."""
        return sum(v for (n, have), v in self.samples.items() if n == name and labels.items() <= dict(have).items())

    def has(self, name, /, **labels):
        return any(n == name and labels.items() <= dict(have).items() for n, have in self.samples)


def follows(server, expected, name, /, **labels):
    soon(expected, lambda: Numbers(server)(name, **labels), 3)


def test_who_may_read_it(server):
    server.account("readers")
    assert server.api("GET", "/metrics", token=False).code == "token_required"
    refused = server.api("GET", "/metrics", token=server.token("of an account", "owner", "readers")["token"])  # whose role would do
    assert refused.code == "role_insufficient" and "the whole server" in refused.json["detail"]
    assert server.api("GET", "/metrics", token=server.token("a factory's", "factory")["token"]).code == "role_insufficient"
    page(server, token=server.token("an auditor's", "auditor")["token"])


def test_without_a_token_where_the_setting_says_so(fresh):
    s = fresh(config=["metrics_open = yes"])
    page(s, token=False)
    page(s, token="nonsense")
    assert s.api("GET", "/api/v1/status", token=False).code == "token_required", "nothing else is open"
    assert s.api("POST", "/metrics", {}, token=False).status in (401, 405)


def test_prometheus_reads_it(server):
    text = page(server)
    families = list(text_string_to_metric_families(text))
    assert len(families) > 30 and all(f.documentation and f.type in ("counter", "gauge", "histogram") for f in families)
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)), "each family once and in one piece"
    for f in families:
        if f.type != "histogram":
            continue
        series = {}
        for s in f.samples:
            if s.name.endswith("_bucket"):
                rest = tuple(sorted((k, v) for k, v in s.labels.items() if k != "le"))
                series.setdefault(rest, []).append((float(s.labels["le"]), s.value))
        for rest, buckets in series.items():
            assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets), (f.name, rest)
            count = next(s.value for s in f.samples if s.name.endswith("_count") and tuple(sorted(s.labels.items())) == rest)
            assert buckets[-1] == (float("inf"), count)
    promtool = shutil.which("promtool")
    if promtool:
        subprocess.run([promtool, "check", "metrics"], input=text, text=True, check=True, timeout=60)


def test_numbers_follow_what_happens(fresh):
    s = fresh()
    assert not Numbers(s).has("muster_audit_head_age_seconds"), "none has been signed yet"
    s.account("numbers")
    key = s.key("numbers", "--max-devices", "2")
    device = enrolled(s, key, "dev-1")
    enrolled(s, key, "dev-2")
    assert s.gateway(key).enrol("dev-3").code == "provisioning_key_exhausted"
    s.gateway(device).get(PATH)
    fleet = s.root("numbers")
    s.gateway(fleet.device("came-by-itself")).ecus()
    s.gateway(Fleet("Nobody").device("x")).get("/")
    n = Numbers(s)
    assert n("muster_enrolments_total", result="new") == 2 and n("muster_enrolments_total", result="refused") == 1
    assert n("muster_enrolment_seconds_count") == 2 and 0 < n("muster_enrolment_seconds_sum") < 60
    assert n("muster_first_contacts_total") == 1
    assert n("muster_refusals_total", process="gateway", code="provisioning_key_exhausted") == 1
    assert n("muster_refusals_total", process="gateway", code="certificate_untrusted") == 1
    assert n("muster_requests_total", process="gateway", **{"class": "enrol", "status": "2xx"}) == 2
    assert n("muster_requests_total", process="gateway", **{"class": "enrol", "status": "4xx"}) == 1
    assert n("muster_requests_total", process="gateway", **{"class": "register"}) == 1
    assert n("muster_requests_total", process="gateway", **{"class": "metadata", "status": "4xx"}) == 1
    assert n("muster_vault_requests_total", request="issue", result="ok") == 2 and n("muster_vault_request_seconds_count") > 2
    assert n("muster_store_commit_seconds_count", process="gateway") >= 3 and n("muster_store_batch_size_sum", process="gateway") >= 3
    assert n("muster_tls_handshakes_total", process="gateway", kind="full") >= 6
    assert n("muster_devices", account="numbers", state="active") == 3
    assert n("muster_provisioning_keys", account="numbers", state="exhausted") == 1 and n("muster_provisioning_keys", account="numbers", state="active") == 0
    assert n("muster_roots", account="numbers", state="active") == 2
    assert n("muster_accounts", kind="test") == 1 and n("muster_accounts_left_out") == 0
    assert n("muster_vault_up") == n("muster_store_up", database="registry") == n("muster_store_up", database="control") == 1
    assert n("muster_store_bytes", database="registry", file="database") > 0 and n("muster_disk_free_bytes") > 0
    s.account("no-keys", "test", "device")
    n = Numbers(s)
    for kind in ("fleet_root", "provisioning_key"):
        assert not n.has("muster_certificate_not_after_seconds", kind=kind, account="no-keys"), "nothing is there that could end"
    assert n("muster_build_info") == 1 and n("muster_clock_behind_seconds") == 0
    for kind in ("server", "server_ca"):
        assert n.has("muster_certificate_not_after_seconds", kind=kind, account=""), kind
    for kind in ("fleet_root", "issuing_ca", "provisioning_ca"):
        assert n("muster_certificate_not_after_seconds", kind=kind, account="numbers") > 2e9, kind
    assert {dict(have)["process"] for name, have in n.samples if name == "muster_sandbox_seccomp"} == {"vault", "control", "gateway", "courier"}
    if not UNCONFINED:
        assert all(v for (name, _), v in n.samples.items() if name.startswith("muster_sandbox_"))
    s.muster("device", "quarantine", "dev-2", "--account", "numbers")
    s.muster("device", "delete", "dev-1", "--account", "numbers")
    s.muster("audit", "head")
    n = Numbers(s)
    assert n("muster_devices", account="numbers", state="active") == 1 and n("muster_devices", account="numbers", state="quarantined") == 1
    assert n("muster_devices", account="numbers", state="deleted") == 1 and 0 <= n("muster_audit_head_age_seconds") < 60 and n.has("muster_audit_head_age_seconds")


def test_open_connections_and_resumed_sessions(server):
    server.account("resume")
    before = Numbers(server)
    device = enrolled(server, server.key("resume"), "dev-1")
    g = server.gateway(device, tls="1.2")
    session = g.session()
    with server.gateway(device).connect(), server.gateway(device).connect():
        follows(server, before("muster_connections_open", process="gateway") + 2, "muster_connections_open", process="gateway")
    follows(server, before("muster_connections_open", process="gateway"), "muster_connections_open", process="gateway")
    assert g.resume(session).resumed
    assert Numbers(server)("muster_tls_handshakes_total", process="gateway", kind="resumed") == before("muster_tls_handshakes_total", process="gateway", kind="resumed") + 1


@pytest.mark.parametrize("code", ["tls_handshake_aborted", "tls_not_tls", "tls_client_rejected_server"])
def test_why_handshakes_fail(server, code):
    before = Numbers(server)("muster_tls_handshakes_failed_total", process="gateway", code=code)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as c:
        if code == "tls_not_tls":
            c.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            c.recv(100)
        elif code == "tls_client_rejected_server":
            with pytest.raises(ssl.SSLError):
                ssl.create_default_context().wrap_socket(c, server_hostname="localhost")  # does not know the server's CA
    follows(server, before + 1, "muster_tls_handshakes_failed_total", process="gateway", code=code)


@pytest.mark.parametrize("process", ["gateway", "control", "vault"])
def test_counters_outlive_a_process_that_dies(fresh, process):
    s = fresh()
    s.account("outlive")
    key = s.key("outlive")
    enrolled(s, key, "dev-1")
    before = Numbers(s)
    pid = s.child(process)
    os.kill(pid, signal.SIGKILL)

    def there():
        try:
            return s.child(process) != pid and s.api("GET", "/readyz").status == 200
        except (LookupError, OSError):
            return False

    soon(True, there, 20)

    def enrols():
        try:
            return s.gateway(key).enrol("dev-2").status
        except OSError:
            return 0

    soon(200, enrols, 20)
    n = Numbers(s)
    assert n("muster_enrolments_total", result="new") == 2
    assert n("muster_process_starts_total", name=process) == before("muster_process_starts_total", name=process) + 1
    assert n("muster_vault_requests_total", request="issue") >= before("muster_vault_requests_total", request="issue") + 1
    soon(0, lambda: Numbers(s)("muster_connections_open", process="gateway"), 5)  # those of the process that died are over


def test_label_values_are_what_was_given(fresh):
    """Names of accounts are labels that need no escape, and everything else that clients name is none: cardinality is bounded."""
    s = fresh()
    s.account("labels")
    key = s.key("labels")
    soon(True, lambda: Numbers(s).has("muster_forecast_age_seconds"), 10)
    before = len(Numbers(s).samples)
    for i in range(30):
        s.gateway(enrolled(s, key, f"dev-{i}")).get(f"/never/{i}?q={i}")
        s.gateway(key, host=f"h{i}.localhost").get("/")
    assert len(Numbers(s).samples) - before < 20
    assert "dev-1" not in page(s)


def test_certificates_that_end_are_counted(fresh):
    s = fresh(start=False)
    s.start()
    s.account("ends", "test", "device")
    fleet = s.root("ends")
    for name, days in (("week", 5), ("month", 20), ("quarter", 80), ("year", 365)):
        s.gateway(fleet.device(name, days=(-1, days))).get("/")
    n = Numbers(s)
    assert [n("muster_devices_certificate_ends", account="ends", within=w) for w in ("0d", "7d", "30d", "90d")] == [0, 1, 2, 3]
    s.muster("device", "revoke", "month", "--account", "ends")
    n = Numbers(s)
    assert [n("muster_devices_certificate_ends", account="ends", within=w) for w in ("0d", "7d", "30d", "90d")] == [0, 1, 1, 2]


def names_in(expression):
    """The names of metrics in an expression of PromQL."""
    return set(re.findall(r"\bmuster_[a-z0-9_]+", expression))


def test_dashboard_and_alerts_name_what_is_there(server):
    text = page(server)
    exposed = {s.name for f in text_string_to_metric_families(text) for s in f.samples} | {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    dashboard = json.loads((ROOT / "packaging" / "grafana-dashboard.json").read_text(encoding="utf-8"))
    panels = [p for p in dashboard["panels"] if p["type"] != "row"]
    assert len(panels) >= 12 and len({p["id"] for p in dashboard["panels"]}) == len(dashboard["panels"])
    for p in panels:
        assert p["title"] and p["gridPos"]["w"] <= 24 and p["targets"]
        for target in p["targets"]:
            assert names_in(target["expr"]) and names_in(target["expr"]) <= exposed, (p["title"], names_in(target["expr"]) - exposed)
    variables = [v["query"] if isinstance(v["query"], str) else v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    assert variables and all(names_in(v) <= exposed for v in variables)
    alerts = yaml.safe_load((ROOT / "packaging" / "prometheus-alerts.yml").read_text(encoding="utf-8"))
    rules = [r for g in alerts["groups"] for r in g["rules"]]
    assert len({r["alert"] for r in rules}) == len(rules) >= 8
    for r in rules:
        assert names_in(r["expr"]) and names_in(r["expr"]) <= exposed, (r["alert"], names_in(r["expr"]) - exposed)
        assert r["labels"]["severity"] in ("critical", "warning") and r["annotations"]["summary"] and r["annotations"]["description"]
    promtool = shutil.which("promtool")
    if promtool:
        subprocess.run([promtool, "check", "rules", ROOT / "packaging" / "prometheus-alerts.yml"], check=True, timeout=60)


def test_the_page_in_doc_is_the_table(server):
    made = subprocess.run([BUILD / "src" / "metrics-table"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert made.strip() in (ROOT / "doc" / "metrics.md").read_text(encoding="utf-8"), "write what build/…/src/metrics-table prints into doc/metrics.md"
    documented = set(re.findall(r"^\| `(muster_\w+)`", made, re.M))
    assert documented == {line.split()[2] for line in page(server).splitlines() if line.startswith("# TYPE")}
