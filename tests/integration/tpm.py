"""A TPM 2.0: swtpm behind a local socket, the programs of others that use it, and what the chip holds."""
import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from conftest import soon


def die_with_us():
    """A test that is killed leaves no simulator behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Tpm:
    """The simulator speaks the commands of a chip; its directory is what lies inside of one, and no part of the device's disk."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="muster-tpm-", dir="/tmp"))  # a socket's path is short
        self.socket = self.dir / "tpm"
        self.process = None
        self.start()

    def start(self):
        (self.dir / "chip").mkdir(exist_ok=True)
        self.process = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.dir}/chip", "--server", f"type=unixio,path={self.socket}",
                                         "--ctrl", f"type=unixio,path={self.socket}.ctrl", "--flags", "not-need-init,startup-clear"], stderr=subprocess.DEVNULL, preexec_fn=die_with_us)
        soon(True, self.answers, 30)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(str(self.socket)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        for path in (self.socket, pathlib.Path(f"{self.socket}.ctrl")):
            path.unlink(missing_ok=True)

    def close(self):
        self.stop()
        shutil.rmtree(self.dir)

    def uri(self, handle="", **query):
        return f"tpm2:{handle}?" + "&".join([f"device={self.socket}", *(f"{k.replace('_', '-')}={v}" for k, v in query.items())])

    @property
    def env(self):
        """For tpm2-tools and tpm2-openssl."""
        return {"TPM2TOOLS_TCTI": f"swtpm:path={self.socket}", "TPM2OPENSSL_TCTI": f"swtpm:path={self.socket}"}

    def run(self, *words, cwd=None):
        return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, env={**os.environ, **self.env}, cwd=cwd or self.dir, timeout=60).stdout

    def handles(self):
        return [line.removeprefix("- ") for line in self.run("tpm2_getcap", "handles-persistent").splitlines()]

    def factory_key(self, handle, pin=""):
        """A key that a factory puts there by tpm2-tools: its public half as PEM."""
        for command in (["tpm2_createprimary", "-Q", "-C", "o", "-c", "primary.ctx"],
                        ["tpm2_create", "-Q", "-C", "primary.ctx", "-G", "ecc256", "-u", "key.pub", "-r", "key.priv", *(["-p", pin] if pin else [])],
                        ["tpm2_load", "-Q", "-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx"],
                        ["tpm2_evictcontrol", "-Q", "-C", "o", "-c", "key.ctx", handle]):
            self.run(*command)
            self.run("tpm2_flushcontext", "-t")  # there is no resource manager before the simulator
        return self.run("openssl", "pkey", "-provider", "tpm2", "-provider", "base", "-in", f"handle:{handle}", "-pubout").encode()
