"""The harness of the integration tests: real programs, real TLS, loopback only.

MUSTER_BUILD names the build directory.  `server` is one running server a test module; `fresh` one a test."""
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import ssl
import subprocess
import tempfile
import time

import pytest

import openapi
import recorder
from client import Answer, Fleet, Gateway, Registration
from ports import free_address
from upstream import Upstream

BUILD = pathlib.Path(os.environ.get("MUSTER_BUILD", pathlib.Path(__file__).parents[2] / "build"))
MUSTERD = BUILD / "src" / "musterd" / "musterd"
THE_MUSTER = (BUILD / "src" / "muster" / "muster").absolute()
MUSTER = recorder.program(THE_MUSTER, *((BUILD / "tests" / library).absolute() for library in ("record_api.so", "light_scrypt.so")))
LONG = os.environ.get("MUSTER_LONG") == "yes"


DOCUMENT = "/api/v1/openapi.json"
ADMINS = set()  # HOST:PORT of every server that was started


class Refused(Exception):
    """What the command line said: exit status, message, stable code."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status
        self.text = text
        self.code = text.rsplit("(", 1)[-1].rstrip(")\n ") if "(" in text else ""


class Server:
    def __init__(self, directory, *init_options, config=None):
        self.dir = pathlib.Path(directory)
        self.process = None
        self.hosts = set()
        subprocess.run([MUSTERD, "init", "--data", self.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *init_options],
                       check=True, capture_output=True, text=True, timeout=60)
        # A sanitised build cannot be confined: MUSTER_TEST_CONFIG="sandbox = off".
        for line in [*filter(None, [os.environ.get("MUSTER_TEST_CONFIG")]), *(config or [])]:
            with open(self.dir / "musterd.conf", "a", encoding="utf-8") as f:
                f.write(line + "\n")
        self.log = open(self.dir.parent / (self.dir.name + ".log"), "a", encoding="utf-8")

    def start(self, *options, env=None):
        """Starts `serve` and waits for its line; keeps the ports over restarts."""
        listen = self.ports = getattr(self, "ports", None) or (free_address(), free_address())
        self.process = subprocess.Popen([MUSTERD, "serve", "--data", self.dir, "--listen", listen[0], "--admin", listen[1], *options],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True, env={**os.environ, **(env or {})})
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"musterd said {line!r}; its log: {self.log_text()[-2000:]}"
        said = dict(word.split("=", 1) for word in line.split()[1:])
        self.url, self.admin_url = said["gateway"], said["admin"]
        self.port = int(self.url.rsplit(":", 1)[1])
        ADMINS.add(self.admin_url.removeprefix("https://"))
        if not openapi.all_documents():  # what the command line hears is held against it from now on
            self.document()
        return self

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
        status = self.process.returncode if self.process else None
        self.process = None
        return status

    def log_text(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text(encoding="utf-8", errors="replace")

    def child(self, name):
        """The process id of vault, control or gateway."""
        out = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
        for line in out.splitlines():
            pid, args = line.split(None, 1)
            if args.strip() == f"musterd: {name}":
                return int(pid)
        raise LookupError(name)

    def muster(self, *args, token_file=None, data=True):
        """A command of `muster --json`, as its document."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
        where = ["--data", self.dir]
        if token_file:
            env.update(MUSTER_URL=self.admin_url, MUSTER_TOKEN_FILE=str(token_file), MUSTER_CA=str(self.dir / "server-ca.pem"))
            where = []
        done = subprocess.run([MUSTER, *where, *[str(a) for a in args], "--json"], capture_output=True, text=True, env=env, timeout=120)
        if done.returncode:
            raise Refused(done.returncode, done.stderr)
        said = json.loads(done.stdout) if done.stdout.strip() else None
        if said is not None:
            self.document().command([str(a) for a in args], said)
        return said

    def document(self):
        """The server's OpenAPI document."""
        if getattr(self, "served", None) is None:
            self.request("GET", DOCUMENT)
        return self.served

    def musterd(self, *args, **options):
        """A command of musterd on this data directory: the finished process."""
        noun = [str(a) for a in args]
        at = 2 if noun[0] in ("vault", "token", "clock") else 1
        return subprocess.run([MUSTERD, *noun[:at], "--data", self.dir, *noun[at:]], capture_output=True, text=True, timeout=120, check=False, **options)

    def api(self, method, path, body=None, token=None):
        """A request of the operators' API; token None: the first owner's, False: no Authorization at all."""
        if token is None:
            token = (self.dir / "admin.token").read_text(encoding="utf-8").strip()
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request(method, path, data, {"Authorization": f"Bearer {token}"} if token else {})

    def request(self, method, path, data=None, fields=None):
        """A request of the admin listener.  The answer is as OpenAPI says."""
        fields = dict(fields or {})
        if data is not None:
            fields["Content-Type"] = "application/json"
        if getattr(self, "admin_ca", None) is None:
            self.admin_ca = ssl.create_default_context(cafile=str(self.dir / "server-ca.pem"))
        c = http.client.HTTPSConnection("127.0.0.1", int(self.admin_url.rsplit(":", 1)[1]), context=self.admin_ca, timeout=60)
        try:
            c.request(method, path, data, fields)
            answer = Answer(c.getresponse())
        finally:
            c.close()
        if path == DOCUMENT and getattr(self, "served", None) is None:
            assert answer.status == 200, answer
            self.served = openapi.document(answer.body.decode())
        self.document().answer(method, path, answer.status, answer.headers, answer.body, data)
        return answer

    def host(self, account):
        """The account's own host name, once the certificate for it is in use: a moment after the account was made."""
        name, end = f"{account}.localhost", time.monotonic() + 1
        while name not in self.hosts:
            try:
                self.gateway(sni=name).connect().close()
                self.hosts.add(name)
            except ssl.SSLCertVerificationError:
                assert time.monotonic() < end, name
                time.sleep(0.01)
        return name

    def database(self, name="registry.db"):
        """A database of the stopped server."""
        assert self.process is None
        return sqlite3.connect(self.dir / name, isolation_level=None)

    def token(self, name, role, account=None, **more):
        """A new operator's token: its document, with the token."""
        made = self.api("POST", "/api/v1/tokens", {"name": name, "role": role, **({"account": account} if account else {}), **more})
        assert made.status == 201, made
        return made.json

    def account(self, name, kind="test", method="both", *options):
        return self.muster("account", "create", name, "--kind", kind, "--method", method, *options)

    def key(self, account, *options):
        """A provisioning key: its document, and what its credentials.zip holds."""
        path = self.dir.parent / f"{account}-{time.monotonic_ns()}.zip"
        shown = self.muster("key", "create", "--account", account, "-o", path, *options)
        return Registration(path, shown)

    def root(self, account, fleet=None, *options, prove=True):
        """Uploads and proves a fleet root."""
        fleet = fleet or Fleet()
        path = self.dir.parent / f"root-{time.monotonic_ns()}.pem"
        path.write_bytes(fleet.root_pem())
        shown = self.muster("root", "upload", path, "--account", account, *options)
        if prove:
            path.write_bytes(fleet.proof_pem(shown["challenge"]))
            shown = self.muster("root", "prove", shown["id"], path)
        fleet.root = shown
        return fleet

    def gateway(self, identity=None, **options):
        """A client of the gateway; identity: something with cert_file."""
        return Gateway(self.port, self.dir / "server-ca.pem", identity, **options)


def refused(code, run, *args, **options):
    """run() is refused by the command line with this code."""
    with pytest.raises(Refused) as said:
        run(*args, **options)
    assert said.value.code == code, said.value.text
    return said.value


def soon(expected, ask, seconds=1.0):
    """ask() gives what is expected within a second: so long may a change take to act everywhere."""
    end = time.monotonic() + seconds
    while (got := ask()) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert got == expected
    return got


def stays(expected, ask, seconds=0.5):
    """ask() gives what is expected, now and when every part of the server has heard of the last change."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert ask() == expected
        time.sleep(0.05)


def whole_run(session):
    """Whether every test of the folder was asked for."""
    options = session.config.option
    args = [pathlib.Path(a).resolve() for a in session.config.args]
    return args == [pathlib.Path(__file__).parent] and not (options.collectonly or options.keyword or options.markexpr or getattr(options, "deselect", None) or getattr(options, "lf", False))


SEEN = []  # [what a lane's document has not seen, …] of the lanes that have ended


def pytest_sessionfinish(session, exitstatus):
    """Every documented answer of the operators' API was seen in one lane or another, where the whole suite ran and passed."""
    unseen = [set(d.unseen()) for d in openapi.all_documents()]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["unseen"] = [[list(row) for row in rows] for rows in unseen]
        return
    if exitstatus != 0 or not whole_run(session):
        return
    unseen += SEEN
    unseen = set.intersection(*unseen) if unseen else {"no document at all"}
    if unseen:
        print("\nDocumented answers of the operators' API that no test has seen:", *sorted(map(str, unseen)), sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# --- lanes -----------------------------------------------------------------------------------------------------------------------------------
# `pytest -n 2 --dist loadfile` (python3-pytest-xdist) runs the files in two lanes.

# Seconds of the files that take long: these begin, so that no lane is left alone with one of them at the end.
SECONDS = {"test_agent_small": 70, "test_agent_hardware": 30, "test_agent_powercut": 35, "test_agent_run": 20, "test_forged_rows": 45, "test_years": 40, "test_shadow": 35, "test_crl": 60, "test_webhooks": 90, "test_backup": 70, "test_est": 60, "test_hsm": 60, "test_reload": 65, "test_webhook_events": 55,
           "test_ca": 50, "test_lists": 50, "test_attacks": 55, "test_refusals": 50, "test_hook": 55, "test_device_credentials": 40, "test_invitation": 40, "test_proxy": 40,
           "test_powercut": 40, "test_status": 35, "test_certificates": 35, "test_limits": 35, "test_ocsp": 30, "test_lost_answer": 30, "test_clock": 30, "test_known_verdicts": 30,
           "test_compromised": 25, "test_tour": 25, "test_confinement": 25, "test_rollover": 25, "test_upgrade": 25, "test_forecast": 25, "test_rekey": 20, "test_starved": 20,
           "test_time": 20, "test_line_renewal": 20, "test_sim": 25, "test_ca_hardware": 20, "test_audit_random": 20, "test_ca_powercut": 20, "test_kill": 20, "test_images": 20,
           "test_debian": -1}  # waits for packages that ./check builds meanwhile


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time or processor shares: no other test runs meanwhile, in no lane")
    if not hasattr(config, "workerinput"):
        config.lanes = tempfile.TemporaryDirectory(prefix="muster-lanes-")


def pytest_unconfigure(config):
    if hasattr(config, "lanes"):
        config.lanes.cleanup()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["lanes"] = node.config.lanes.name


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    SEEN.extend({tuple(row) for row in rows} for rows in getattr(node, "workeroutput", {}).get("unseen", []))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: -SECONDS.get(item.path.stem, 0))


@contextlib.contextmanager
def lane(folder, alone):
    """A test's way through: all lanes at once, or one alone.  Whoever waits to be alone holds the gate, so that no lane goes on past him."""
    with open(pathlib.Path(folder) / "gate", "a", encoding="ascii") as gate, open(pathlib.Path(folder) / "road", "a", encoding="ascii") as road:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(road, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(road, fcntl.LOCK_UN)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    folder = getattr(item.config, "workerinput", {}).get("lanes")
    with lane(folder, item.get_closest_marker("alone")) if folder else contextlib.nullcontext():
        yield


RECORDED = set()  # (method, target without query, status) of what the command line heard


def check_recorded():
    """What the command line heard is as OpenAPI says; of the tests' own servers: others may say what they like."""
    for e in recorder.take():
        if e.host not in ADMINS:
            continue
        (document,) = openapi.all_documents()
        document.answer(e.method, e.target, e.status, e.headers, e.body, e.sent)
        RECORDED.add((e.method, e.target.partition("?")[0], e.status))


@pytest.fixture(autouse=True)
def recorded():
    yield
    check_recorded()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("muster") / "data").start()
    yield s
    assert s.stop() == 0
    assert "Sanitizer" not in s.log_text()


@pytest.fixture(scope="module")
def back():
    """A server behind the gateway."""
    u = Upstream()
    yield u
    u.close()


@pytest.fixture
def fresh(tmp_path):
    servers = []

    def make(*options, start=True, server=Server, **more):
        s = server(tmp_path / f"data{len(servers)}", *options, **more)
        servers.append(s)
        return s.start() if start else s

    yield make
    for s in servers:
        s.stop()
        shutil.rmtree(s.dir, ignore_errors=True)
    for s in servers:
        assert not any(word in s.log_text() for word in ("Sanitizer", "runtime error:")), s.log_text()[-4000:]
