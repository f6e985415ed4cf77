"""What every command of muster has in common: flags, words to choose from, messages, lists of very many."""
import json
import os
import subprocess

import pytest

from client import Fleet
from conftest import MUSTER
from test_lists import many, on_a_terminal  # noqa: F401 (a fixture)


def run(*arguments, **options):
    return subprocess.run([MUSTER, *map(str, arguments)], capture_output=True, timeout=120, stdin=subprocess.DEVNULL, check=False, **options)


def test_a_flag_takes_no_value(server, fleet, tmp_path):
    """--again=no would be taken for --again otherwise."""
    done = run("ca", "issue", "d", "-o", tmp_path / "d", "--ca", tmp_path / "ca", "--again=no")
    assert done.returncode == 2 and b"--again takes no value" in done.stderr
    done = run("--data", server.dir, "device", "release", "nobody", "--account", "x", "--for-reprovision=no")
    assert done.returncode == 2 and b"--for-reprovision takes no value" in done.stderr


@pytest.mark.parametrize("option, words", [("--kind", "device|proof|root|intermediate|line"), ("--state", "issued|revoked|abandoned|reserved")])
def test_a_word_that_is_none_of_those_is_wrong_usage_and_no_empty_list(tmp_path, option, words):
    (tmp_path / "pass").touch(0o600)
    (tmp_path / "pass").write_text("a passphrase\n")
    assert run("ca", "init", "--ca", tmp_path / "ca", "--passphrase-file", tmp_path / "pass").returncode == 0
    for wrong in ("roots", "", "issue", words):
        done = run("ca", "list", "--ca", tmp_path / "ca", option, wrong)
        assert done.returncode == 2 and words.encode() in done.stderr and not done.stdout
    for word in words.split("|"):
        assert run("ca", "list", "--ca", tmp_path / "ca", option, word).returncode == 0


def test_nothing_that_is_said_twice_is_taken_once(server, tmp_path):
    """`crl export --account testing --account fleet` was a file with the lists of one of them."""
    server.account("once", "test", "shared")
    for words in (("crl", "export", "--account", "once", "--account", "twice", "-o", tmp_path / "x.pem"), ("account", "set", "once", "--late-renewal", "1d", "--late-renewal", "2d")):
        done = run("--data", server.dir, *words)
        assert done.returncode == 2 and b"given twice" in done.stderr and not (tmp_path / "x.pem").exists()


def test_lengths_of_time_are_said_as_such(server):
    server.account("spans", "test", "shared", "--renewal-window", "30d", "--late-renewal", "36h", "--superseded-renewal", 900, "--lost-answer-window", "2h")
    settings = server.muster("account", "show", "spans")["settings"]
    assert [settings[k] for k in ("renewal_window", "late_renewal", "superseded_renewal", "lost_answer_window")] == [30 * 86400, 36 * 3600, 900, 7200]
    shown = run("--data", server.dir, "account", "show", "spans").stdout.decode()
    for line in ("renewal_window: 30d", "late_renewal: 36h", "superseded_renewal: 15m", "lost_answer_window: 2h", "device_life: 20y"):
        assert f"  {line}\n" in shown, shown
    for value in ("1.5d", "-1d", "soon", "30days", "30 d"):
        done = run("--data", server.dir, "account", "set", "spans", "--late-renewal", value)
        assert done.returncode == 2 and b"30d, 12h or 900" in done.stderr
    assert server.muster("account", "show", "spans")["settings"]["late_renewal"] == 36 * 3600


def test_a_noun_alone_says_where_to_look():
    done = run("ca")
    assert done.returncode == 2 and b"`muster ca --help`" in done.stderr
    done = run("cat")
    assert done.returncode == 2 and b"is not a command" in done.stderr


@pytest.fixture(scope="module")
def fleet():
    return Fleet("Command Line Root")


def test_no_message_drives_a_terminal(server, tmp_path):
    """A stranger chooses the name of his certificate's issuer; U+009B begins a terminal's commands as ESC [ does."""
    server.account("messages", "test", "device")
    stranger = Fleet("mine\x9b31m\x1b]0;t\x07").device("d\x9b2J")
    done = run("--data", server.dir, "explain", stranger.cert_file, "--account", "messages")
    assert done.returncode == 1 and b"mine??31m" in done.stderr and b"mine??31m" in done.stdout
    for said in (done.stdout, done.stderr):
        assert b"\xc2\x9b" not in said and b"\x1b" not in said and b"\x07" not in said


def measured(arguments, out):
    """The resident memory at its most, in KiB."""
    with open(out, "wb") as f:
        child = subprocess.Popen([MUSTER, *map(str, arguments)], stdout=f, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss


def test_a_list_of_many_is_printed_page_by_page(many, tmp_path):  # noqa: F811
    devices = ["--data", many.dir, "device", "list", "--account", "many"]
    ids = sorted(r["device_id"] for r in many.rows)
    few = measured([*devices, "--prefix", ids[0], "--json"], tmp_path / "few")
    assert measured([*devices, "--json"], tmp_path / "json") < few + 6_000  # in one piece they are 50 MB
    assert measured(devices, tmp_path / "table") < few + 6_000
    text = (tmp_path / "json").read_text()
    said = json.loads(text)
    assert sorted(d["device_id"] for d in said) == ids and text == json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    header, *lines = (tmp_path / "table").read_text().splitlines()
    assert header.split()[:2] == ["id", "device_id"] and sorted(line.split()[1] for line in lines) == ids
    typed = on_a_terminal([MUSTER, *devices])
    assert typed.startswith("id ") and typed.replace("\r\n", "\n") == (tmp_path / "table").read_text()


def test_a_list_of_none(server):
    server.account("none", "test", "shared")
    devices = ["--data", server.dir, "device", "list", "--account", "none"]
    assert run(*devices, "--json").stdout == b"[]\n"
    assert run(*devices).stdout.split() == b"id device_id state method created last_seen".split()


def test_a_file_that_cannot_be_used_is_named_with_the_reason(server, tmp_path):
    server.account("files", "test", "shared")
    done = run("--data", server.dir, "device", "import", tmp_path / "none", "--account", "files")
    assert done.returncode == 1 and b"none cannot be opened: No such file or directory" in done.stderr
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    made = ["--data", server.dir, "key", "create", "--account", "files", "-o"]
    done = run(*made, tmp_path / "none" / "x.zip")
    assert done.returncode == 1 and b"x.zip cannot be written: No such file or directory. Nothing was made." in done.stderr
    if os.geteuid():
        done = run(*made, closed / "x.zip")
        assert done.returncode == 1 and b"cannot be written: Permission denied" in done.stderr
    assert b"not written to a terminal" in on_a_terminal([MUSTER, *made, "-"], fails=True).encode()
    assert server.muster("key", "list", "--account", "files") == [], "a key that nobody has was not made"
    done = run("--data", server.dir, "device", "export", "--account", "files", "-o", tmp_path / "none" / "x")
    assert done.returncode == 1 and b"cannot be written: No such file or directory" in done.stderr
