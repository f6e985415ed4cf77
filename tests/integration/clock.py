"""The clocks of a running server, moved by a test: tests/faults/jump_clock.c.  Unlike libfaketime it is a few lines, and hangs in no child process."""
import struct

from conftest import BUILD


class Clock:
    def __init__(self, path):
        self.path = path
        self.set(0)
        self.env = {"LD_PRELOAD": str(BUILD / "tests" / "jump_clock.so"), "MUSTER_TEST_CLOCK": str(path)}

    def set(self, ahead, monotonic=0, process=0):
        """Seconds that the calendar is ahead, and the timers of one process."""
        with open(self.path, "r+b" if self.path.exists() else "wb") as f:
            f.write(struct.pack("=qqq", ahead, monotonic, process))
