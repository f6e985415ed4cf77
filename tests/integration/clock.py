"""The clocks of a running server, moved by a test: tests/faults/jump_clock.c.  Unlike libfaketime it is a few lines, and hangs in no child process."""
import os
import struct
from datetime import timedelta

from conftest import BUILD


class Clock:
    def __init__(self, path):
        self.path = path
        self.set(0)
        self.env = {"LD_PRELOAD": str(BUILD / "tests" / "jump_clock.so"), "MUSTER_TEST_CLOCK": str(path),
                    "ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))}  # a sanitised build wants to be first otherwise

    @property
    def ahead(self):
        """Seconds: as it was set, also by who it is the clock of."""
        return struct.unpack_from("=q", self.path.read_bytes())[0]

    @staticmethod
    def is_settable():
        """By a program that would set the machine's own: ends the test where the library is too old for that."""
        assert b"clock_settime" in (BUILD / "tests" / "jump_clock.so").read_bytes()

    def set(self, ahead, monotonic=0, process=0):
        """Seconds that the calendar is ahead, and the timers of one process."""
        with open(self.path, "r+b" if self.path.exists() else "wb") as f:
            f.write(struct.pack("=qqq", ahead, monotonic, process))


def ahead(server, **much):
    """The environment in which that server's calendar is so much ahead: server.start(env=ahead(server, days=20))."""
    clock = Clock(server.dir.parent / "clock")
    clock.set(int(timedelta(**much).total_seconds()))
    return clock.env
