"""Lists of very many devices: every combination of filters against the rows themselves, counts, export and import."""
import csv
import itertools
import json
import os
import pathlib
import sqlite3
import shlex
import stat
import subprocess
import sys

import pytest

from client import Fleet
from conftest import BUILD, MUSTER, Refused, Server, refused
from enrolment import enrolled

DEVICES = 12_000  # more than four times what one page looks at
STATES = [None, "active", "pending", "quarantined", "revoked", "deleted"]
SEEN, UNSEEN = "2026-09-01T00:30:00Z", "2026-08-25T12:00:00Z"


def filled(directory, devices):
    """A server, stopped, whose registry bench_fill wrote."""
    s = Server(directory / "data").start()
    s.account("many")
    for name in ("key-0", "key-1", "key-2"):
        s.key("many", "--name", name)
    s.root("many", Fleet(), prove=False)
    s.stop()
    subprocess.run([BUILD / "bench" / "bench_fill", s.dir / "registry.db", "many", str(devices)], check=True, timeout=300)
    return s


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """It runs, and has the rows as Python sees them."""
    s = filled(tmp_path_factory.mktemp("lists"), DEVICES)
    with s.database() as db:
        db.row_factory = sqlite3.Row
        s.rows = [dict(r) for r in db.execute("SELECT d.id, d.device_id, d.state, d.created, d.last_seen, k.name AS key, COALESCE(d.root = (SELECT MAX(id) FROM root), 0) AS rooted FROM device d "
                                              "LEFT JOIN prov_key k ON k.id = d.prov_key ORDER BY d.id")]
    s.start()
    s.root_id = s.muster("root", "list", "--account", "many")[-1]["id"]
    yield s
    assert s.stop() == 0


def walk(server, query, limit=1000):
    """All items of a list, and how many pages there were."""
    items, cursor, pages = [], None, 0
    while True:
        text = "&".join([f"limit={limit}", *query, *([f"cursor={cursor}"] if cursor else [])])
        answer = server.api("GET", f"/api/v1/accounts/many/devices?{text}")
        assert answer.status == 200, answer
        items += answer.json["items"]
        pages += 1
        assert pages < 200
        cursor = answer.json["next"]
        if cursor is None:
            return items, pages


def seconds(text):
    import datetime
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())


COMBINATIONS = list(itertools.product([None, "active", "pending", "revoked"], [None, "key-0", "key-2"], [False, True], [None, "car-", "truck-00001", "zebra"],
                                      [None, ("seen_since", SEEN), ("not_seen_since", UNSEEN)], [False, True]))


def test_every_combination_of_filters_gives_exactly_what_fits(many):
    checked = 0
    for n, (state, key, root, prefix, seen, ordered) in enumerate(COMBINATIONS):
        if n % 7 and os.environ.get("MUSTER_LONG") != "yes":
            continue
        query = [f"{k}={v}" for k, v in (("state", state), ("key", key), ("root", many.root_id if root else None), ("prefix", prefix),
                                         ("order", "created" if ordered else None)) if v] + ([f"{seen[0]}={seen[1]}"] if seen else [])
        expected = {r["device_id"] for r in many.rows if (not state or STATES[r["state"]] == state) and (not key or r["key"] == key) and (not root or r["rooted"]) and
                    (not prefix or r["device_id"].startswith(prefix)) and (not seen or (seen[0] == "seen_since" and r["last_seen"] >= seconds(SEEN)) or
                                                                           (seen[0] == "not_seen_since" and r["last_seen"] < seconds(UNSEEN)))}
        items, _ = walk(many, query)
        got = [i["device_id"] for i in items]
        assert len(got) == len(set(got)) and set(got) == expected, query
        if ordered:
            assert [i["created"] for i in items] == sorted(i["created"] for i in items)
        checked += 1
    assert checked >= len(COMBINATIONS) // 7


def test_small_pages_and_the_ends(many):
    full = [r["device_id"] for r in many.rows if STATES[r["state"]] == "quarantined"]
    for limit in (1, 7, len(full), len(full) + 1):
        items, pages = walk(many, ["state=quarantined"], limit)
        assert [i["device_id"] for i in items] == full
        assert pages == max(1, -(-len(full) // limit))
    items, _ = walk(many, ["prefix=truck-000010"], 5)
    assert [i["device_id"] for i in items] == sorted(r["device_id"] for r in many.rows if r["device_id"].startswith("truck-000010")) and len(items) > 5
    items, _ = walk(many, [f"not_seen_since={UNSEEN}"], 999)
    hours = [seconds(i["last_seen"]) // 3600 for i in items]
    assert hours == sorted(hours)  # the longest silent first


def test_a_page_looks_at_a_bounded_number(many):
    """Nothing fits both, and no index says so: short pages with cursors, not one long wait."""
    items, pages = walk(many, ["key=key-0", f"root={many.root_id}"])
    assert items == [] and pages > 1 or len([r for r in many.rows if r["rooted"]]) <= 2500
    items, pages = walk(many, ["order=created", "seen_since=2030-01-01T00:00:00Z"])
    assert items == [] and pages == 5


def test_a_long_walk_by_device_id_ends_at_the_end(many):
    """Every page but the first meets the device again that the cursor names; it must not count as the one that shows that there are more."""
    items, pages = walk(many, ["prefix=car-", "key=key-0"])
    assert [i["device_id"] for i in items] == sorted(r["device_id"] for r in many.rows if r["key"] == "key-0" and r["device_id"].startswith("car-")) and pages > 3


@pytest.mark.parametrize("query", ["cursor=x", "cursor=d:car-1", "cursor=s:1", "cursor=s::", "cursor=-1", "cursor=99999999999999999999", "state=odd", "order=name",
                                   "seen_since=soon", "not_seen_since=", "since=x", "limit=0", "limit=1001",
                                   "stat=active", "state", "key=", "root=", "state=", "%6bey=", "state=active&state=pending", "state=active&%73tate=active", "limit=1&missing=yes"])
def test_what_is_no_query_is_refused(many, query):
    answer = many.api("GET", f"/api/v1/accounts/many/devices?{query}")
    assert (answer.status, answer.code) == (400, "invalid_request")


def test_key_and_root_of_another_account_are_none(many):
    """The list of a root's devices goes by the root alone: that it is the account's own is asked before."""
    many.account("neighbour")
    many.key("neighbour", "--name", "theirs")
    for query in (f"root={many.root_id}", f"root={many.root_id}&state=active", "key=key-0"):
        assert many.api("GET", f"/api/v1/accounts/many/devices?{query}&limit=1").json["items"], query
        answer = many.api("GET", f"/api/v1/accounts/neighbour/devices?{query}")
        assert (answer.status, answer.code) == (404, "not_found"), query


def test_the_cursor_of_another_list_finds_nothing_else(many):
    """It is a position, not a permission: whatever it says, the filters hold."""
    for cursor in ("d:", "d:zzz", "d:car-00000005"):
        got = many.api("GET", f"/api/v1/accounts/many/devices?prefix=truck-&cursor={cursor}").json["items"]
        assert all(i["device_id"].startswith("truck-") for i in got)


# --- counts ---------------------------------------------------------------------------------------------------------------------------------


def counted(server):
    with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
        kept = db.execute("SELECT account, root, method, state, n FROM device_count WHERE n > 0 ORDER BY 1, 2, 3, 4").fetchall()
        assert kept == db.execute("SELECT account, COALESCE(root, 0), method, state, COUNT(*) FROM device GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4").fetchall()
        keys = db.execute("SELECT prov_key, n FROM key_count WHERE n > 0 ORDER BY 1").fetchall()
        assert keys == db.execute("SELECT prov_key, COUNT(DISTINCT device) FROM cert WHERE prov_key IS NOT NULL AND device IS NOT NULL AND state IN (1, 2, 5) GROUP BY 1 ORDER BY 1").fetchall()
    return kept, keys


def test_counts_are_kept_exactly(many):
    counted(many)
    by_state = {s: sum(STATES[r["state"]] == s for r in many.rows) for s in STATES[1:]}
    assert many.muster("account", "show", "many")["devices"] == by_state
    for key in ("key-0", "key-1", "key-2"):
        assert many.api("GET", f"/api/v1/accounts/many/keys/{key}").json["devices"] == sum(r["key"] == key for r in many.rows)
    assert many.muster("root", "show", many.root_id)["devices"] == sum(r["rooted"] and r["state"] <= 3 for r in many.rows)


def test_counts_follow_every_change(server):
    server.account("counts", "test", "both", "--reprovision", "replace")
    first, second = server.key("counts"), server.key("counts")
    fleet = server.root("counts")
    device = enrolled(server, first, "comes-again")
    server.gateway(device).get("/")
    before = counted(server)
    enrolled(server, first, "comes-again")  # replaced
    other = fleet.device("of-the-fleet")
    server.gateway(other, sni=server.host("counts")).get("/")
    after = counted(server)
    assert after != before
    enrolled(server, second, "second")
    for verb, *more in (("quarantine", "second"), ("release", "second"), ("revoke", "second"), ("release", "second"), ("delete", "of-the-fleet"), ("release", "of-the-fleet")):
        server.muster("device", verb, *more, "--account", "counts")
        counted(server)
    shown = server.muster("account", "show", "counts")["devices"]
    assert shown == {"active": 1, "pending": 0, "quarantined": 0, "revoked": 0, "deleted": 0}


# --- export ---------------------------------------------------------------------------------------------------------------------------------


def export(server, path, *options, account="many"):
    return server.muster("device", "export", "--account", account, "-o", path, *options)


def test_export_of_everything(many, tmp_path):
    said = export(many, tmp_path / "all.csv")
    assert said == {"id": "many", "exported": DEVICES, "file": str(tmp_path / "all.csv")}
    assert stat.S_IMODE((tmp_path / "all.csv").stat().st_mode) == 0o600 and sorted(os.listdir(tmp_path)) == ["all.csv"]
    with open(tmp_path / "all.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [r["device_id"] for r in rows] == [r["device_id"] for r in many.rows]
    assert {r["state"] for r in rows} == set(STATES[1:]) and {r["key_name"] for r in rows} == {"", "key-0", "key-1", "key-2"}
    export(many, tmp_path / "all.jsonl", "--format", "jsonl")
    lines = [json.loads(l) for l in open(tmp_path / "all.jsonl", encoding="utf-8")]
    assert [l["device_id"] for l in lines] == [r["device_id"] for r in many.rows]
    assert export(many, tmp_path / "some.csv", "--state", "pending", "--prefix", "car-")["exported"] == sum(STATES[r["state"]] == "pending" and r["device_id"].startswith("car-") for r in many.rows)


def test_export_to_standard_output_and_errors(many, tmp_path):
    done = subprocess.run([MUSTER, "--data", many.dir, "device", "export", "--account", "many", "--state", "deleted", "-o", "-"], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1 + sum(STATES[r["state"]] == "deleted" for r in many.rows) and done.stderr == ""
    (tmp_path / "old.csv").write_text("what was there")
    refused("not_found", export, many, tmp_path / "old.csv", "--key", "no-such-key")
    assert (tmp_path / "old.csv").read_text() == "what was there" and os.listdir(tmp_path) == ["old.csv"]
    assert pytest.raises(Refused, export, many, tmp_path / "x", "--format", "xml").value.status == 2
    refused("invalid_request", export, many, tmp_path / "no" / "such" / "folder")


FORMULAS = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "'=1", "'x", 'a"b', "a,b", " a ", "ü", "a'b"]


def test_a_device_id_that_a_spreadsheet_would_run(server, tmp_path):
    """Guarded in the export; read back as it was by the import."""
    server.account("formulas", "test", "shared")
    key = server.key("formulas")
    for device_id in FORMULAS:
        enrolled(server, key, device_id)
    export(server, tmp_path / "f.csv", account="formulas")
    with open(tmp_path / "f.csv", newline="", encoding="utf-8") as f:
        ids = [r["device_id"] for r in csv.DictReader(f)]
    assert not any(i[0] in "=+-@\t" for i in ids)
    assert ids == ["'" + i if i[0] in "=+-@'" else i for i in FORMULAS]
    with open(tmp_path / "ids.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["device_id"], *([i] for i in ids)])
    assert server.muster("device", "import", tmp_path / "ids.csv", "--account", "formulas")["added"] == len(FORMULAS)
    assert sorted(e["device_id"] for e in server.muster("expected", "list", "--account", "formulas")) == sorted(FORMULAS)


# --- import ---------------------------------------------------------------------------------------------------------------------------------

PIN = "ab" * 32


@pytest.fixture
def account(server):
    name = f"imp-{next(NUMBERS)}"
    server.account(name)
    return name


NUMBERS = itertools.count()


def bring(server, account, path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return server.muster("device", "import", path, "--account", account)


def expected(server, account, *options):
    return {e["device_id"]: e["fingerprint"] for e in server.muster("expected", "list", "--account", account, *options)}


@pytest.mark.parametrize("content", [
    f'device_id,fingerprint\na,\n"b,c",{PIN}\n', f'fingerprint,device_id\r\n,a\r\n{PIN},"b,c"\r\n', f'\ufeffdevice_id,fingerprint\na\n"b,c",{PIN}', f'a\n\n"b,c",{PIN}\n',
    '{"device_id": "a"}\n\n{"device_id": "b,c", "fingerprint": "' + PIN + '"}\n'])
def test_forms_of_the_file(server, account, tmp_path, content):
    assert bring(server, account, tmp_path / "f", content) == {"id": account, "imported": 2, "added": 2, "changed": 0}
    assert expected(server, account) == {"a": None, "b,c": PIN}
    assert bring(server, account, tmp_path / "f", content)["added"] == 0  # again: harmless


@pytest.mark.parametrize("content, line", [
    ('a\nb\n"c\n', 3), ('a\nb"c\n', 2), ('a\n"b"c\n', 2), ("a,x,y\n", 1), ("device_id,fingerpint\n", 1), ("device_id,device_id\n", 1), ("a\nb,nothex\n", 2), ("a\n" + "x" * 129 + "\n", 2),
    ('{"device_id":"a"}\n{"device_id":"b","fingerpint":"x"}\n', 2), ('{"device_id":"a"}\n\n{"id":"b"}\n', 3), ('{"device_id":"a"}\n{\n', 2), (b"a\nb\xff\n", 2), (b"a\nb\0c\n", 2),
    ("a\n" + "x" * 70_000, 2), ("device_id\nlocal\x7f\n", 2)])
def test_an_error_names_the_line(server, account, tmp_path, content, line):
    said = pytest.raises(Refused, bring, server, account, tmp_path / "f", content).value
    assert said.status == 1 and f"After 0 announced devices: Line {line}" in said.text
    assert expected(server, account) == {}  # the batch is taken whole or not at all


@pytest.mark.parametrize("last", ['"open', "a,b,c", '{"device_id": 1}', "x" * 200, b"\xff", "y" * 70_000], ids=["quote", "cells", "json", "server", "bytes", "long"])
def test_an_error_says_what_was_taken_before_it(server, account, tmp_path, last):
    """Whether the server finds it or the command itself."""
    form = '{{"device_id": "u-{}"}}\n' if last == '{"device_id": 1}' else "u-{}\n"
    content = "".join(form.format(i) for i in range(4500)).encode() + (last if isinstance(last, bytes) else last.encode()) + b"\n"
    said = pytest.raises(Refused, bring, server, account, tmp_path / "f", content).value
    assert "After 4000 announced devices: Line 4501" in said.text
    assert len(expected(server, account)) == 4000


def on_a_terminal(arguments, fails=False):
    done = subprocess.run(["script", "-qec", shlex.join(map(str, arguments)), "/dev/null"], capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    assert bool(done.returncode) == fails, done
    return done.stdout.decode()  # with its carriage returns


def test_progress_on_a_terminal_and_nowhere_else(server, account, many, tmp_path):
    file = tmp_path / "f"
    file.write_text("".join(f"p-{i}\n" for i in range(4500)))
    arguments = [MUSTER, "--data", server.dir, "device", "import", file, "--account", account]
    typed = on_a_terminal(arguments)
    assert [n for n in ("2000", "4000", "4500") if f"\r{n} announced" in typed] == ["2000", "4000", "4500"]
    assert "announced" not in subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stderr
    arguments = [MUSTER, "--data", many.dir, "device", "export", "--account", "many", "-o"]
    assert f"\r{DEVICES} exported" in on_a_terminal([*arguments, tmp_path / "typed.csv"])
    assert "exported" not in subprocess.run([*arguments, tmp_path / "f.csv"], capture_output=True, text=True, check=True, timeout=60).stderr


def test_a_large_file_in_batches(server, account, tmp_path):
    lines = [f"unit-{i:06}" for i in range(5000)]
    said = pytest.raises(Refused, bring, server, account, tmp_path / "f", "\n".join([*lines, "x" * 200])).value
    assert "After 4000 announced devices" in said.text and "Line 5001" in said.text
    assert len(expected(server, account)) == 4000
    assert bring(server, account, tmp_path / "f", "\n".join(lines)) == {"id": account, "imported": 5000, "added": 1000, "changed": 0}
    done = subprocess.run([MUSTER, "--data", server.dir, "device", "import", "-", "--account", account], input="one-more\n", capture_output=True, text=True, check=True)
    assert "added: 1" in done.stdout
    assert len(expected(server, account, "--prefix", "unit-0049")) == 100


def test_announced_devices_are_reconciled(server, tmp_path):
    server.account("line", "test", "shared")
    bring(server, "line", tmp_path / "f", "built-1\nbuilt-2\nbuilt-3\n")
    enrolled(server, server.key("line"), "built-2")
    listed = {e["device_id"]: e["state"] for e in server.muster("expected", "list", "--account", "line")}
    assert listed == {"built-1": None, "built-2": "active", "built-3": None}
    assert list(expected(server, "line", "--missing")) == ["built-1", "built-3"]
    assert server.muster("expected", "remove", "built-1", "--account", "line") == {"id": "built-1", "device_id": "built-1"}
    refused("not_found", server.muster, "expected", "remove", "built-1", "--account", "line")
    assert list(expected(server, "line")) == ["built-2", "built-3"]
    assert server.api("GET", "/api/v1/accounts/line/expected?missing=").code == "invalid_request"
    page = server.api("GET", "/api/v1/accounts/line/expected?limit=1").json
    assert page["next"] == "built-2" and server.api("GET", "/api/v1/accounts/line/expected?limit=1&cursor=built-2").json == {
        "items": [{"id": "built-3", "device_id": "built-3", "fingerprint": None, "announced": page["items"][0]["announced"], "state": None}], "next": None}
    assert [e["action"] for e in server.muster("audit", "list", "--account", "line")][-1] == "device.unannounce"


# --- bench ----------------------------------------------------------------------------------------------------------------------------------


def test_the_measurement_itself_runs():
    """In a tiny form: whether it runs, not how fast."""
    script = pathlib.Path(__file__).parents[2] / "bench" / "lists"
    done = subprocess.run([sys.executable, script, "--build", BUILD, "--devices", "1000", "--rounds", "1"], capture_output=True, text=True, timeout=300,
                          env={k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")})
    assert done.returncode == 0, done.stderr
    assert "the worst median is" in done.stdout and "import of the same again of 1000 expected devices" in done.stdout
