"""SIGHUP takes settings up: nobody is cut off by it, and bad settings change nothing."""
import signal
import threading
import time

from conftest import Refused, soon
from upstream import Upstream, answer


def change(s, *lines, drop=()):
    """Edits musterd.conf above its first section and sends SIGHUP."""
    path = s.dir / "musterd.conf"
    old = [l for l in path.read_text(encoding="utf-8").splitlines() if not any(l.startswith(d) for d in drop)]
    path.write_text("\n".join([*(l for l in lines if not l.startswith("[")), *old, ""]) + "\n".join(["", *section(lines)]) + "\n", encoding="utf-8")
    s.process.send_signal(signal.SIGHUP)


def section(lines):
    return [part for l in lines if l.startswith("[") for part in l.split("\n")]


def device(s):
    s.account("reloaded", "test", "device")
    return s.gateway(s.root("reloaded").device("d1"))


def test_a_route_begins_while_everything_goes_on(fresh):
    s, back = fresh(), Upstream(lambda got, c: answer(body=b"from behind"))
    g, answers, stop = device(s), [], threading.Event()

    def work():
        while not stop.is_set():
            answers.append(g.get("/director/x").status)

    def operate():
        while not stop.is_set():
            try:
                answers.append("ok" if s.muster("account", "list") else "none")
            except Refused as e:
                answers.append(str(e))
    assert g.get("/director/x").status == 404
    threads = [threading.Thread(target=f, daemon=True) for f in (work, work, operate)]
    for t in threads:
        t.start()
    change(s, f"[route /director]\nupstream = {back.url}")
    soon(200, lambda: g.get("/director/x").status, 10)
    time.sleep(1)
    stop.set()
    for t in threads:
        t.join()
    assert set(answers) == {404, 200, "ok"}, set(answers)
    assert g.get("/director/x").body == b"from behind"
    change(s, f"[route /repo]\nupstream = {back.url}", drop=("[route", "upstream"))
    soon(200, lambda: g.get("/repo/x").status, 10)
    soon(404, lambda: g.get("/director/x").status, 10)
    back.close()


def test_a_transfer_under_way_is_finished_by_the_gateway_that_began_it(fresh):
    def slow(got, c):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")
        for _ in range(30):
            c.sendall(b"x")
            time.sleep(0.1)
    back = Upstream(slow)
    s = fresh(config=["[route /repo]", f"upstream = {back.url}"])
    g = device(s)
    got = []
    t = threading.Thread(target=lambda: got.append(g.get("/repo/x").body))
    t.start()
    time.sleep(0.5)
    change(s, "log_level = debug")
    t.join()
    assert got == [b"x" * 30]
    assert "gateway_replaced" in s.log_text()
    back.close()


def test_bad_settings_change_nothing(fresh):
    s = fresh()
    g = device(s)
    pid = s.child("gateway")
    change(s, "no_such_setting = 1")
    soon(True, lambda: "settings_not_loaded" in s.log_text() and "no_such_setting" in s.log_text(), 5)
    assert g.get("/x").code == "not_found" and s.muster("account", "list")
    assert s.child("gateway") == pid
    change(s, "[route /x]\nupstream = nowhere", drop=("no_such",))
    soon(2, lambda: s.log_text().count("settings_not_loaded"), 5)
    assert s.child("gateway") == pid and g.get("/x").code == "not_found"


def test_what_the_supervisor_lives_by_waits_for_a_restart(fresh):
    s = fresh()
    g = device(s)
    change(s, "loops = 3", "rsa_pool = 2", drop=("loops", "rsa_pool"))
    soon(True, lambda: "gateway_replaced" in s.log_text(), 10)
    assert "setting_needs_restart name=loops" in s.log_text()
    assert g.get("/x").code == "not_found"
    before = s.log_text().count("gateway_replaced")
    s.process.send_signal(signal.SIGHUP)
    time.sleep(1.5)
    assert s.log_text().count("gateway_replaced") == before, "nothing has changed"


def test_another_host_name(fresh):
    s = fresh()
    change(s, "host = localhost gw.example.com", drop=("host",))
    soon(True, lambda: "gateway_replaced" in s.log_text(), 10)
    g = s.gateway(sni="gw.example.com")
    soon(True, lambda: reaches(g), 10)


def reaches(g):
    try:
        return g.get("/x").code == "certificate_required"
    except OSError:
        return False
