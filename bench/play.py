"""play: the servers and the load of the measurements in this folder: real servers, bench_floor and nginx, certificates of openssl's making, and what
all processes of a server have used.  begin() comes first; what it starts ends with the program."""
import atexit, base64, contextlib, json, os, pathlib, re, resource, select, shutil, socket, sqlite3, ssl, subprocess, sys, tempfile, time, urllib.parse, zipfile

CONCURRENCY = 16
FILES = 65536  # what each program may have open
CLIENT = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}  # of a sanitised build: clients free little at their end


def run(*command): return subprocess.run([str(c) for c in command], check=True, text=True, capture_output=True).stdout


def begin(build_directory, where=None):
    global build, top, musterd, muster, load, floor, fill, attacker, fleet, stranger, server_ca, server_cert, issuing
    build = pathlib.Path(build_directory).resolve()
    musterd, muster = build / "src/musterd/musterd", build / "src/muster/muster"
    load, floor, fill = build / "bench/bench_load", build / "bench/bench_floor", build / "bench/bench_fill"
    attacker = build / "bench/bench_attack"
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < FILES:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
        except (ValueError, PermissionError):
            pass  # bench/run says how many connections that leaves
    top = pathlib.Path(tempfile.mkdtemp(prefix="muster-bench-", dir=where))
    atexit.register(shutil.rmtree, top)
    ca = ["keyUsage=critical,keyCertSign,cRLSign"]
    fleet = certificate("fleet", "/CN=Bench fleet root", extensions=ca)
    stranger = certificate("stranger", "/CN=Bench stranger", extensions=ca)
    server_ca = certificate("server-ca", "/CN=Bench server CA", extensions=ca)
    server_cert = certificate("server", "/CN=localhost", issuer=server_ca, extensions=["subjectAltName=DNS:localhost", "extendedKeyUsage=serverAuth"])
    issuing = certificate("issuing", "/O=bench/CN=bench issuing CA 12345678", extensions=ca)


# --- what a server uses ---------------------------------------------------------------------------------------------------------

def tree(pid):
    """The process and all below it."""
    below = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        below += (task / "children").read_text().split()
    return [pid] + [p for child in below for p in tree(int(child))]


def cpu(pid):
    """Nanoseconds that all threads have run."""
    return sum(int((t / "schedstat").read_text().split()[0]) for p in tree(pid) for t in pathlib.Path(f"/proc/{p}/task").iterdir())


def descriptors(pid): return sum(len(os.listdir(f"/proc/{p}/fd")) for p in tree(pid))


def pss(pid):
    """Bytes of memory, shared pages divided among those that share them."""
    return sum(int(line.split()[1]) * 1024 for p in tree(pid) for line in open(f"/proc/{p}/smaps_rollup") if line.startswith("Pss:"))


# --- the servers ------------------------------------------------------------------------------------------------------------------

class Server:
    prefix = []  # in front of the command: taskset and the like

    def start(self, *command, env=None):
        self.process = subprocess.Popen([str(c) for c in [*self.prefix, *command]], stdout=subprocess.PIPE, stderr=open(top / f"{self.name}.log", "w"), text=True, env=env)
        self.pid = self.process.pid
        atexit.register(self.stop)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def certificate(name, subject, issuer=None, extensions=(), key=None):
    """A P-256 certificate of openssl's making, as NAME.pem and NAME.key."""
    cert, key = top / f"{name}.pem", key or top / f"{name}.key"
    more = [a for e in extensions for a in ("-addext", e)]
    if not issuer:
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "3650", "-subj", subject, *more)
        return cert
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", top / "request.pem", "-subj", subject)
    (top / "extensions").write_text("\n".join(extensions))
    run("openssl", "x509", "-req", "-in", top / "request.pem", "-CA", issuer, "-CAkey", issuer.with_suffix(".key"), "-days", "3650", "-out", cert, "-extfile", top / "extensions")
    return cert


NO_LIMITS = "connections = 60000\nenrolments = 10000\nlimit_source = 0\nlimit_device = 0\nlimit_key = 0\nlimit_account = 0\nlimit_guesses = 0\nlimit_ocsp = 100000\ncrl_listen = 127.0.0.1:0\n"


class Muster(Server):
    """ready: a directory with a data directory that bench_fill has filled and its first key's credentials.zip; devices: fill it with so many."""
    def __init__(self, name, loops=1, sync=True, devices=0, ready=None, settings=NO_LIMITS):
        self.name, self.data, self.zip, self.sync = name, top / name, top / f"{name}.zip", sync
        if ready:
            shutil.copytree(ready / "data", self.data)
            shutil.copy(ready / "key-0.zip", self.zip)
        else:
            run(musterd, "init", "--data", self.data)
        conf = self.data / "musterd.conf"
        conf.write_text(conf.read_text() + f"\nloops = {loops}\nlog_requests = off\nlog_level = warn\n{settings}")
        self.serve()
        time.sleep(1)
        self.at_start = pss(self.pid)
        if not ready:
            self.cli("account", "create", "bench", "--kind", "test", "--method", "both")
            self.cli("key", "create", "--account", "bench", "--name", "bench", "-o", self.zip)
        self.cli("account", "set", "bench", "--issue-ceiling", "1000000")
        self.read_key()
        root = self.cli("root", "upload", fleet, "--account", "bench")
        proof = certificate(f"{name}-proof", f"/CN={root['challenge']}", issuer=fleet)
        self.cli("root", "prove", root["id"], proof, "--account", "bench")
        if devices:
            self.stop()
            run(fill, self.data / "registry.db", "bench", devices)
            self.serve()
        time.sleep(1)  # the gateway has seen it

    def serve(self):
        env = None if self.sync else {**os.environ, "LD_PRELOAD": str(build / "bench/no_sync.so")}
        self.start(musterd, "serve", "--data", self.data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", env=env)
        said = self.process.stdout.readline()
        assert said.startswith("ready"), said
        self.port = int(said.split("gateway=")[1].split()[0].rsplit(":", 1)[1])
        self.ca = self.data / "server-ca.pem"

    def read_key(self):
        with zipfile.ZipFile(self.zip) as z:
            (top / f"{self.name}.p12").write_bytes(z.read("autoprov_credentials.p12"))
        for what, of in (("-nokeys", "crt"), ("-nocerts", "key")):
            run("openssl", "pkcs12", "-in", top / f"{self.name}.p12", "-passin", "pass:", "-nodes", "-clcerts", what, "-out", top / f"{self.name}.{of}")
        self.key = f"{top / self.name}.crt,{top / self.name}.key"

    def cli(self, *args): return json.loads(run(muster, "--data", self.data, *args, "--json", "--yes"))

    def certificates(self):
        """How many have ever been issued."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data}/registry.db?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM cert").fetchone()[0]

    def enrolled(self): return sum(key["spent"] for key in self.cli("key", "list", "--account", "bench"))


class Floor(Server):
    def __init__(self):
        self.name, self.ca = "floor", server_ca
        self.start(floor, server_cert, server_cert.with_suffix(".key"), fleet, issuing, issuing.with_suffix(".key"), server_ca, "313")
        self.port = int(self.process.stdout.readline())
        self.key = f"{certificate('floor-key', '/O=bench/OU=Provisioning keys/CN=key', issuer=fleet, extensions=['extendedKeyUsage=clientAuth'])},{top}/floor-key.key"


class Nginx(Server):
    """One worker, stateful sessions, no access log: what is nearest to what the gateway does for a request that it answers itself."""
    def __init__(self, answer):
        self.name, self.ca = "nginx", server_ca
        where = top / "nginx"
        where.mkdir()
        self.port = free_port()
        (where / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {where}/pid; error_log {where}/error.log;
events {{ worker_connections 60000; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; default_type application/json;
    client_body_temp_path {where}/a; proxy_temp_path {where}/b; fastcgi_temp_path {where}/c; uwsgi_temp_path {where}/d; scgi_temp_path {where}/e;
    server {{
        listen 127.0.0.1:{self.port} ssl backlog=4096;
        ssl_certificate {server_cert}; ssl_certificate_key {server_cert.with_suffix('.key')};
        ssl_protocols TLSv1.3; ssl_verify_client on; ssl_client_certificate {fleet}; ssl_verify_depth 3;
        ssl_session_cache shared:sessions:40m; ssl_session_tickets off;
        location / {{ return 404 '{answer}'; }}
    }}
}}""")
        self.start("/usr/sbin/nginx", "-c", where / "nginx.conf", "-p", where)
        time.sleep(1)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- one measurement ----------------------------------------------------------------------------------------------------------------

class Load:
    prefix = []

    def __init__(self, server, *args):
        self.process = subprocess.Popen([str(c) for c in (*self.prefix, load, "--port", server.port, "--ca", server.ca, *args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=CLIENT)
        self.say("ready")

    def say(self, expected):
        line = self.process.stdout.readline().strip()
        assert line == expected, f"bench_load said {line!r}"

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self):
        line = self.process.stdout.readline()
        assert line, "bench_load failed"
        self.say("done")
        return json.loads(line)

    def end(self):
        self.go()
        assert self.process.wait(60) == 0


class Fleet:
    """Devices of muster-sim, at work from now on."""

    def __init__(self, server, *args):
        self.process = subprocess.Popen([str(c) for c in (build / "src/muster-sim", *args, "--credentials", server.zip, "--gateway", f"https://localhost:{server.port}", "--json")],
                                        stdout=subprocess.PIPE, text=True, env=CLIENT)

    def result(self):
        said = json.loads(self.process.stdout.read())
        self.process.wait(60)
        return said


def measure(server, *args, ops):
    """Processor time in microseconds an operation, and what the client saw."""
    client = Load(server, "--ops", ops, *args)
    time.sleep(0.2)
    before = cpu(server.pid)
    client.go()
    seen = client.result()
    time.sleep(0.1)  # what is done after the answer counts as well
    used = (cpu(server.pid) - before) / 1000 / ops
    client.end()
    return used, seen


_count = 0


def fresh(letter):
    """A prefix for device IDs that nobody has had."""
    global _count
    _count += 1
    return f"{letter}{_count}"


def plain(server, ops, request, look, concurrency=CONCURRENCY):
    """Requests without TLS on kept connections to the listener of revocation lists and OCSP; look(body) for each answer.  What the client itself takes does not count."""
    port = int(server.cli("crl", "list", "--account", "bench")[0]["url"].split("/")[2].rsplit(":", 1)[1])
    poll, asked, answered = select.poll(), 0, 0
    open_ = {}
    for _ in range(concurrency):
        s = socket.create_connection(("127.0.0.1", port))
        open_[s.fileno()] = [s, b""]
        poll.register(s, select.POLLIN)
    before, began = cpu(server.pid), time.monotonic()
    for one in list(open_.values())[:ops]:
        one[0].sendall(request(asked))
        asked += 1
    while answered < ops:
        for fd, _ in poll.poll():
            one = open_[fd]
            got = one[0].recv(65536)
            assert got, "the connection was closed"
            one[1] += got
            head, end, body = one[1].partition(b"\r\n\r\n")
            if not end or len(body) < int(re.search(rb"(?i)content-length: (\d+)", head)[1]):
                continue
            assert head.startswith(b"HTTP/1.1 200"), head
            look(body)
            one[1], answered = b"", answered + 1
            if asked < ops:
                one[0].sendall(request(asked))
                asked += 1
    used, took = (cpu(server.pid) - before) / 1000 / ops, time.monotonic() - began
    for one in open_.values():
        one[0].close()
    return used, {"ops": ops, "seconds": round(took, 3)}


class Asked:
    """One device of Muster's own, and OCSP requests about it, by openssl; of a request with a nonce another nonce each time."""
    def __init__(self, server):
        enrol(server, 1)
        with contextlib.closing(sqlite3.connect(f"file:{server.data}/registry.db?mode=ro", uri=True)) as db:
            ca, serial = db.execute("SELECT ca.der, cert.serial FROM cert JOIN ca ON ca.id = cert.issuer ORDER BY cert.id DESC LIMIT 1").fetchone()
        issuer, self.nonced, self.bare = top / "asked-issuer.pem", top / "asked-nonce.der", top / "asked.der"
        issuer.write_text(ssl.DER_cert_to_PEM_cert(ca))
        for out, option in ((self.nonced, "-nonce"), (self.bare, "-no_nonce")):
            run("openssl", "ocsp", "-issuer", issuer, "-serial", "0x" + serial.hex(), option, "-reqout", out)
        self.nonced, self.bare = self.nonced.read_bytes(), self.bare.read_bytes()

    def signed(self, server, ops):
        """A read of the registry and a signature each."""
        def request(i):
            der = self.nonced[:-8] + os.urandom(8)  # the nonce stands at the end
            return b"POST /ocsp/bench HTTP/1.1\r\nHost: a\r\nContent-Type: application/ocsp-request\r\nContent-Length: %d\r\n\r\n" % len(der) + der
        return plain(server, ops, request, self.look)

    def kept(self, server, ops):
        """The same answer again."""
        path = urllib.parse.quote(base64.b64encode(self.bare).decode(), safe="")
        request = f"GET /ocsp/bench/{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        return plain(server, ops, lambda i: request, self.look)

    @staticmethod
    def look(body):
        assert body[4:7] == b"\x0a\x01\x00" and b"\x80\x00\x18\x0f" in body, "not successful, or not good"


def crl(server, ops):
    """The list of an issuing CA, fetched again and again."""
    path = next(c["url"] for c in server.cli("crl", "list", "--account", "bench") if c["kind"] == "issuing-ca").split("/", 3)[3]
    request = f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    def look(body):
        assert body[:1] == b"\x30" and len(body) > 200

    return plain(server, ops, lambda i: request, look)


def fleet_device(): return ["--issuer", fleet, "--issuer-key", fleet.with_suffix(".key"), "--prefix", fresh("d"), "--status", 404]


def enrol(server, ops, concurrency=CONCURRENCY, every=1):
    """Enrolments, each of which has to be in the registry; of so many answers one is opened."""
    before = server.enrolled() if isinstance(server, Muster) else None
    got = measure(server, "--identity", server.key, "--devices", fresh("e"), "--concurrency", concurrency, "--every", every, ops=ops)
    if before is not None:
        assert server.enrolled() - before == ops, "not every enrolment that was answered is in the registry"
    return got


def est(server, ops, renew=False, concurrency=CONCURRENCY):
    """Enrolments by EST's simpleenroll, or renewals of devices that did that before the clock started; each certificate is looked at, and in the registry."""
    before = server.certificates() if isinstance(server, Muster) else None
    got = measure(server, "--identity", server.key, "--csr", fresh("q"), "--concurrency", concurrency, *(["--renew"] if renew else []), ops=ops)
    if before is not None:
        assert server.certificates() - before == ops * (1 + renew), "not every certificate that was answered is in the registry"
    return got


def get(server, ops, *more, mode="new", clients=None):
    """Requests of devices under the fleet root; by default each device is there for the first time."""
    return measure(server, *fleet_device(), "--clients", clients or ops, "--mode", mode, "--concurrency", CONCURRENCY, *more, ops=ops)
