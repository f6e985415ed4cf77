"""A token of SoftHSM's, behind a module that can be told to go away, to be slow, to hang and to lie (tests/faults/moody.c)."""
import os
import pathlib
import subprocess

from conftest import BUILD

MODULE = pathlib.Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "2468-pin-of-the-token"


class Token:
    def __init__(self, directory, label="fleet keys"):
        self.dir, self.label = pathlib.Path(directory), label
        self.dir.mkdir(parents=True)
        (self.dir / "softhsm2.conf").write_text(f"directories.tokendir = {self.dir}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", encoding="utf-8")
        self.env = {"SOFTHSM2_CONF": str(self.dir / "softhsm2.conf"), "MOODY_DIR": str(self.dir), "MOODY_MODULE": str(MODULE)}
        self.pin_file = self.dir / "pin"
        self.set_pin(PIN)
        self.make()

    def make(self):
        (self.dir / "tokens").mkdir()
        subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", self.label, "--so-pin", "so-pin-1234", "--pin", PIN], check=True, capture_output=True,
                       env={**os.environ, **self.env}, timeout=60)

    def set_pin(self, pin):
        self.pin_file.write_text(pin + "\n", encoding="utf-8")
        self.pin_file.chmod(0o600)

    def config(self, token=None):
        return [f"pkcs11_module = {BUILD}/tests/moody.so", f"pkcs11_token = {token or self.label}", f"pkcs11_pin_file = {self.pin_file}", f"pkcs11_files = {self.dir}"]

    def be(self, mood, value=""):
        (self.dir / mood).write_text(str(value), encoding="ascii")

    def no_more(self, mood):
        (self.dir / mood).unlink(missing_ok=True)

    def logins(self):
        counted = self.dir / "counted"
        return counted.stat().st_size if counted.exists() else 0

    def keys(self, *options):
        """Private keys in it, by pkcs11-tool: label and usage lines."""
        done = subprocess.run(["pkcs11-tool", "--module", MODULE, "--token-label", self.label, "--login", "--pin", PIN, "--list-objects", "--type", "privkey", *options],
                              check=True, capture_output=True, text=True, env={**os.environ, **self.env}, timeout=60)
        return done.stdout
