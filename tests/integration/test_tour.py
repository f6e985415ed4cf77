"""doc/tour.md, doc/est.md, doc/load.md and doc/time.md as they are printed: every command, in order, in one shell, and what the page says that it prints."""
import contextlib
import os
import pathlib
import re
import subprocess

import pytest

from conftest import BUILD, MUSTER, MUSTERD
from ports import free_port

SOURCE = pathlib.Path(__file__).parents[2]
PAGE = SOURCE / "doc" / "tour.md"
SIMULATE = SOURCE / "tests" / "simulate"
BUILD_BLOCK = "meson setup build/tour"  # the one block that is not run: the build that is tested stands in PATH instead
PORTS = ("8443", "9443", "9001")  # the one thing that is replaced in what is run and printed: by free ones

# What differs from run to run; everything else has to come as it is printed.
VARIES = [
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    (re.compile(r"\d+\.\d s$"), r"\d+\.\d s"),
    (re.compile(r"…"), r".*"),
    (re.compile(r" +"), r" +"),
]


def blocks(text):
    """[(commands, lines that they print)] of a page."""
    found = []
    for kind, content in re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.M | re.S):
        if kind == "sh":
            found.append((content, []))
        else:
            assert kind == "text" and not found[-1][1], content
            found[-1][1].extend(content.splitlines())
    return found


def pattern(line):
    """A printed line as an expression: what varies is replaced, the rest is literal."""
    parts, rest = [], line.strip()
    while rest:
        hits = [(m.start(), m.end(), by) for expression, by in VARIES if (m := expression.search(rest))]
        start, end, by = min(hits, default=(len(rest), len(rest), ""))
        parts += [re.escape(rest[:start]), by]
        rest = rest[end:]
    return "^ *" + "".join(parts) + " *$"


def missing(expected, said):
    """The first printed line that did not come, in the printed order; None: all came."""
    at = 0
    for line in filter(lambda one: one.strip() != "…", expected):
        hit = re.compile(pattern(line), flags=re.M).search(said, at)
        if not hit:
            return line
        at = hit.end()
    return None


def test_what_counts_as_printed():
    said = "id  device_id\n01a219ad-4e85-7431-be88-c169c6b13d24  car-0007   active\n5 devices: 5 enrolled, 0 refused, 12.3 s\n"
    assert missing(["11111111-4e85-7431-be88-c169c6b13d24 car-0007 active", "…", "5 devices: 5 enrolled, 0 refused, 0.1 s"], said) is None
    for wrong in ("5 devices: 4 enrolled, 0 refused, 0.1 s", "car-0007 active", "id device", "…car-0008…"):
        assert missing([wrong], said) == wrong
    assert missing(["5 devices…", "id device_id"], said) == "id device_id"  # in order
    assert [(c, len(lines)) for c, lines in blocks("```sh\na\n```\n```text\nx\ny\n```\n\n```sh\nb\n```\n")] == [("a\n", 2), ("b\n", 0)]


def printed_on(page, ports):
    """The blocks of a page, with free ports."""
    text = page.read_text(encoding="utf-8")
    for port in ports:
        free = str(free_port())
        assert re.search(rf"\b{port}\b", text)
        text = re.sub(rf"\b{port}\b", free, text)
    return blocks(text)


def run_as_printed(printed, tmp_path):
    # One bash for the whole page; a command that fails is told by the trap, for the page says `||` where one has to.
    script = "exec 2>&1\nshopt -s inherit_errexit\ntrap 'echo \"@@failed: $BASH_COMMAND\"' ERR\n" + "".join(
        f"echo; echo @@{i}\n{commands}" for i, (commands, _) in enumerate(printed)) + "echo; echo @@end\n"
    env = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
    env["PATH"] = f"{MUSTERD.parent}:{MUSTER.parent}:{BUILD / 'src'}:{SIMULATE.parent}:{os.environ['PATH']}"
    out = tmp_path / "out"
    with open(out, "wb") as to:
        shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=to, cwd=tmp_path, env=env, start_new_session=True)
        try:
            shell.communicate(script.encode(), timeout=400)
        finally:
            for pid in filter(None, subprocess.run(["ps", "-s", str(shell.pid), "-o", "pid="], capture_output=True, text=True).stdout.split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 15)  # what a page that broke off left running: all of it is the session of this shell
    said = out.read_text(encoding="utf-8", errors="replace")
    assert "@@failed" not in said, said[-6000:]
    parts = re.split(r"^@@(?:\d+|end)\n", said, flags=re.M)
    assert len(parts) == len(printed) + 2, said[-6000:]
    for (commands, lines), part in zip(printed, parts[1:]):
        gone = missing(lines, part)
        assert gone is None, f"not printed: {gone}\nby: {commands}\nbut: {part[-4000:]}"


def test_the_tour_as_it_is_printed(tmp_path):
    printed = printed_on(PAGE, PORTS)
    assert BUILD_BLOCK in printed[0][0]
    printed = printed[1:]
    assert len(printed) >= 18 and sum(len(lines) for _, lines in printed) >= 35
    run_as_printed(printed, tmp_path)


def test_est_as_it_is_printed(tmp_path):
    printed = printed_on(SOURCE / "doc" / "est.md", PORTS[:2])
    assert len(printed) >= 8 and sum(len(lines) for _, lines in printed) >= 10
    run_as_printed(printed, tmp_path)


def test_load_planning_as_it_is_printed(tmp_path):
    printed = printed_on(SOURCE / "doc" / "load.md", PORTS[:2])
    assert len(printed) >= 8 and sum(len(lines) for _, lines in printed) >= 25
    run_as_printed(printed, tmp_path)


def test_the_time_as_it_is_printed(tmp_path):
    printed = printed_on(SOURCE / "doc" / "time.md", PORTS[:2])
    assert len(printed) >= 3 and sum(len(lines) for _, lines in printed) >= 4
    run_as_printed(printed, tmp_path)


# --- the simulator itself -------------------------------------------------------------------------------------------------------------------


def simulate(*arguments):
    done = subprocess.run([SIMULATE, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return done.returncode, re.sub(r", \d+\.\d s\n$", "", done.stdout)


def test_the_simulator_counts_what_the_registry_holds(server, tmp_path):
    server.account("simulated", "test", "shared")
    key = server.key("simulated", "--max-devices", "3")
    after = "ecus,system_info,installed,network,config,events"
    assert simulate("--zip", key.zip, "--devices", 5, "--prefix", "unit-", "--threads", 1, "--dir", tmp_path / "units", "--after", after) == (
        1, "5 devices: 3 enrolled, 3 reported, 2 refused (provisioning_key_exhausted 2)")
    devices = server.muster("device", "list", "--account", "simulated")
    assert sorted(d["device_id"] for d in devices) == ["unit-0001", "unit-0002", "unit-0003"]
    shown = server.muster("device", "show", "unit-0002", "--account", "simulated")
    assert shown["hardware"]["serial"] == "unit-0002" and shown["network"]["hostname"] == "unit-0002"
    assert shown["installed"]["packages"] == 20 and len(shown["events"]) == 2 and shown["config"] and shown["ecus"]
    folder = tmp_path / "units" / "unit-0002"
    assert {(p.name, p.stat().st_mode & 0o777) for p in folder.iterdir()} >= {("pkey.pem", 0o600)} and folder.stat().st_mode & 0o777 == 0o700
    # What was kept is a device again; once it is cut off, it is out.
    server.muster("device", "quarantine", "unit-0002", "--account", "simulated")
    assert simulate("--identities", tmp_path / "units") == (1, "3 devices: 2 reported, 1 refused (device_quarantined 1)")
    assert simulate("--identities", tmp_path / "units", "--prefix", "unit-0001") == (0, "1 devices: 1 reported, 0 refused")


@pytest.mark.parametrize("arguments", [[], ["--zip", "none.zip", "--identities", "x"], ["--zip", "none.zip", "--after", "ecus,nothing"], ["--zip", "none.zip", "--devices", "0"],
                                       ["--zip", "none.zip", "--prefix", "../"], ["--identities", "x", "--dir", "y"]], ids=lambda a: "-".join(a) or "none")
def test_wrong_usage_of_the_simulator(arguments):
    assert simulate(*arguments)[0] == 2
