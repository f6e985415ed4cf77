"""What the command line says to a server and hears from it, recorded and held against the OpenAPI document.

Every `muster` of the tests is a script that starts the real one behind tests/faults/record_api.c; conftest.py looks through the records after
each test.  So an answer that only a command asks for is validated like those of the tests' own client, its errors included."""
import atexit
import collections
import http.client
import io
import os
import pathlib
import shutil
import tempfile

Exchange = collections.namedtuple("Exchange", "method target host sent status headers body")

DIR = pathlib.Path(tempfile.mkdtemp(prefix="muster-recorded-"))
atexit.register(shutil.rmtree, DIR, ignore_errors=True)


def program(real, *libraries):
    """The script in the place of the program `real`; it has its name."""
    for folder, mode in ((DIR, 0o711), (DIR / "bin", 0o755), (DIR / "api", 0o1733)):  # some commands run as another user
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    made = DIR / "bin" / real.name
    # Behind it stays what a test loads in front; a sanitised build wants to be first otherwise.
    made.write_text(f"""#!/bin/sh
RECORD_API='{DIR}/api' LD_PRELOAD="{":".join(map(str, libraries))}${{LD_PRELOAD:+:$LD_PRELOAD}}" ASAN_OPTIONS="${{ASAN_OPTIONS:+$ASAN_OPTIONS:}}verify_asan_link_order=0" exec '{real}' "$@"
""", encoding="utf-8")
    made.chmod(0o755)
    return made


class Plain:
    """Bytes as http.client reads them from a socket; several answers follow one another."""

    def __init__(self, data):
        self.file = io.BytesIO(data)
        self.file.close = lambda: None  # it is read on behind an answer

    def makefile(self, mode):
        return self.file


def requests(data):
    """(method, target, host, body) of each whole request."""
    at = 0
    while (end := data.find(b"\r\n\r\n", at)) >= 0:
        line, *fields = data[at:end].decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        values = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        assert "transfer-encoding" not in values, "the command line sends its bodies whole"
        at = end + 4 + int(values.get("content-length", 0))
        yield method, target, values.get("host", ""), data[end + 4:at]


def exchanges(sent, got):
    """What was asked on one connection and answered in full: an answer that was cut off is none."""
    plain = Plain(got)
    for method, target, host, body in requests(sent):
        answer = http.client.HTTPResponse(plain, method=method)
        try:
            answer.begin()
            said = answer.read()
        except (http.client.HTTPException, ValueError):
            if plain.file.read(1):
                raise  # not the end, but no HTTP
            return
        yield Exchange(method, target, host, body or None, answer.status, answer.headers, said)


def take():
    """All that was recorded since the last time, and finished."""
    found = []
    for sent in sorted((DIR / "api").glob("*.sent")):
        got = sent.with_suffix(".got")
        if os.path.exists(f"/proc/{sent.name.split('-')[0]}"):  # still at it
            continue
        if got.exists():
            found += exchanges(sent.read_bytes(), got.read_bytes())
            got.unlink()
        sent.unlink()
    return found
