"""Every earlier schema becomes the newest at the next start, and nothing is lost, at whatever write that start is killed."""
import shutil
import sqlite3
import subprocess

import pytest

import old_schema
from conftest import MUSTERD
from enrolment import Account, ask, enrolled, spent, used
from test_starved import Disk

KILLED = -1
NUMBERS = [("registry", n) for n in range(1, len(old_schema.scripts("registry")))] + [("control", n) for n in range(1, len(old_schema.scripts("control")))]


class Filled:
    """A server with something of everything, stopped, and what it said of itself."""

    def __init__(self, server):
        self.server = server
        self.account = Account(server, method="both")
        self.key = self.account.key("--max-devices", "20", "--per-hour", "15")
        self.device = used(server, self.key, "used")
        for i in range(4):
            enrolled(server, self.key, f"waiting-{i}")
        self.own = server.root(self.account.name).device("own")
        assert server.gateway(self.own).ecus().status == 201
        self.account.device("quarantine", "waiting-1")
        self.account.device("revoke", "waiting-2", "--reason", "test")
        server.muster("token", "create", "auditor", "--role", "auditor")
        self.before = self.said()
        assert server.stop() == 0

    def said(self):
        m, at = self.server.muster, ("--account", self.account.name)
        return {"devices": m("device", "list", *at), "keys": m("key", "list", *at), "roots": m("root", "list", *at), "account": m("account", "show", self.account.name),
                "used": self.account.device("show", "used"), "tokens": [t["name"] for t in m("token", "list")], "spent": spent(self.server, self.key)}

    def holds(self):
        """Nothing is lost, and all of it works."""
        s = self.server
        assert {k: v for k, v in self.said().items() if k != "tokens"} == {k: v for k, v in self.before.items() if k != "tokens"}
        assert set(self.before["tokens"]) <= {t["name"] for t in s.muster("token", "list")}
        assert ask(s, self.device) is None and ask(s, self.own) is None
        assert s.muster("audit", "verify", "--account", self.account.name)["ok"] and s.muster("audit", "verify")["ok"]
        enrolled(s, self.key, "afterwards")
        assert s.stop() == 0


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    from conftest import Server
    return Filled(Server(tmp_path_factory.mktemp("upgrade") / "data").start())


@pytest.mark.parametrize("kind,schema", NUMBERS, ids=[f"{k}-{n}" for k, n in NUMBERS])
def test_each_earlier_schema_under_a_kill_loop(filled, tmp_path, kind, schema):
    s = filled.server
    kept, disk = tmp_path / "kept", Disk(tmp_path / "disk")
    shutil.copytree(s.dir, kept)
    try:
        path = s.dir / f"{kind}.db"
        newest = old_schema.take_back(path, schema)
        assert newest == len(old_schema.scripts(kind)) > schema
        killed, good = 0, 0
        while True:  # at its first write, its second, …; each start goes on with what the last one left
            disk.fail(KILLED, good)
            process = subprocess.Popen([MUSTERD, "serve", "--data", s.dir, "--listen", s.ports[0], "--admin", s.ports[1]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       env=disk.env, text=True)
            line = process.stdout.readline()
            if line.startswith("ready"):
                disk.mend()
                process.terminate()
                process.communicate(timeout=60)
                break
            killed += process.wait(60) == 137
            good += 1 if good < 8 else 8
            assert good < 400
        assert killed >= 5, "a migration writes more often than that"
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT max(number) FROM schema_version").fetchone()[0] == newest
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert not db.execute("PRAGMA foreign_key_check").fetchall()
        db.close()
        s.start()
        filled.holds()
    finally:
        s.stop()
        shutil.rmtree(s.dir)
        shutil.copytree(kept, s.dir)
