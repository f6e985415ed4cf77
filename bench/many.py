"""A real server whose account has very many devices (bench_fill), and what enrolments wait while it does something large: what bench/crl and bench/forecast share."""
import argparse, atexit, json, os, pathlib, re, shutil, sqlite3, statistics, subprocess, sys, tempfile, time


def arguments(doc):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", required=True)
    p.add_argument("--devices", type=int, default=1_000_000)
    p.add_argument("--dir", help="kept, and used again where it is there already")
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--most", type=float, help="fail where an enrolment waits longer by this than any does without, in ms")
    return p.parse_args()


class Many:
    """prepare(db, devices): further changes of the filled registry."""

    def __init__(self, options, prepare, config=""):
        os.environ["MUSTER_BUILD"] = options.build
        sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "integration"))
        import client
        self.client, self.options, build = client, options, pathlib.Path(options.build)
        self.musterd, self.program, fill = build / "src/musterd/musterd", build / "src/muster/muster", build / "bench/bench_fill"
        self.top = pathlib.Path(options.dir or tempfile.mkdtemp(prefix="muster-bench-"))
        self.data, self.tag = self.top / "data", f"{time.time_ns()}"
        if not self.data.exists():
            self.top.mkdir(parents=True, exist_ok=True)
            self.run(self.musterd, "init", "--data", self.data)
            with open(self.data / "musterd.conf", "a") as f:
                f.write(config)
            self.start()
            self.cli("account", "create", "bench", "--kind", "test", "--method", "both", "--issue-ceiling", "10000000")
            self.cli("key", "create", "--account", "bench", "-o", self.top / "key.zip", "--name", "key")
            key, cert = self.top / "ca.key", self.top / "ca.pem"
            self.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "3650", "-subj", "/CN=Bench Root")
            self.cli("root", "upload", cert, "--account", "bench")
            self.stop()
            self.run(fill, self.data / "registry.db", "bench", options.devices)
            db = sqlite3.connect(self.data / "registry.db", isolation_level=None)
            db.execute("BEGIN")
            prepare(db, options.devices)
            db.execute("COMMIT")
            db.close()
        self.start()
        self.key = client.Registration(self.top / "key.zip")

    @staticmethod
    def run(*command): return subprocess.run([str(c) for c in command], check=True, text=True, capture_output=True).stdout
    def cli(self, *args): return json.loads(self.run(self.program, "--data", self.data, *args, "--json"))
    def log(self): return (self.top / "log").read_text()

    def start(self):
        atexit.register(self.stop)
        self.process = subprocess.Popen([self.musterd, "serve", "--data", self.data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=open(self.top / "log", "a"), text=True)
        said = self.process.stdout.readline()
        assert said.startswith("ready"), said
        self.port = int(re.search(r"gateway=\S+:(\d+)", said)[1])

    def stop(self):
        atexit.unregister(self.stop)
        self.process.terminate()
        self.process.wait()

    def child(self, name):
        """The process id of vault, control or gateway."""
        return int(self.run("pgrep", "-P", self.process.pid, "-f", f"musterd: {name}").split()[0])

    def gateway(self, identity): return self.client.Gateway(self.port, self.data / "server-ca.pem", identity)

    def enrol(self, seconds, what):
        """Devices that enrol one after the other: milliseconds of each, the longest last."""
        took, end, i = [], time.monotonic() + seconds, 0
        while time.monotonic() < end:
            began = time.monotonic()
            answer = self.gateway(self.key).enrol(f"{what}-{self.tag}-{i}")
            assert answer.status == 200, answer
            took.append((time.monotonic() - began) * 1000)
            i += 1
        return sorted(took)

    @staticmethod
    def show(what, took):
        print(f"{what:44} {len(took):6} enrolments, ms: median {statistics.median(took):6.1f}  99 % {took[int(len(took) * 0.99)]:6.1f}  longest {took[-1]:6.1f}", flush=True)

    def end(self, without, during):
        self.stop()
        if not self.options.dir:
            shutil.rmtree(self.top)
        if self.options.most and during[-1] - without[-1] > self.options.most:
            sys.exit(f"An enrolment waited {during[-1] - without[-1]:.0f} ms longer than any does without.")
