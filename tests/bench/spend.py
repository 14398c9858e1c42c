"""What a command takes: time, processor time and memory of its process and all that it waited for."""

import atexit
import dataclasses
import os
import signal
import subprocess
import sys
import time


@dataclasses.dataclass
class Spent:
    wall_s: float = 0.0
    cpu_s: float = 0.0
    # Of the largest process.
    rss_bytes: int = 0

    def add(self, other):
        self.wall_s += other.wall_s
        self.cpu_s += other.cpu_s
        self.rss_bytes = max(self.rss_bytes, other.rss_bytes)


under_way = set()


@atexit.register
def stop_all():
    """Nothing of what was started stays behind when a benchmark is stopped."""
    for process in under_way:
        process.kill()


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


class Failed(Exception):
    """A command that did not do what it should, with the end of what it said."""


class Running:
    """A command that is under way; its output goes to `log`."""

    def __init__(self, command, log, environment=None):
        self.name = os.path.basename(command[0])
        self.log = log
        self.began = time.monotonic()
        try:
            with open(log, "ab") as output:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    env={**os.environ, **(environment or {})})
        except OSError as error:
            raise Failed(f"{self.name} cannot be started: {error}") from error
        under_way.add(self.process)

    def ended(self):
        """Whether it has ended by itself. It stays a zombie, so that what it took can still be asked for."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, codes=(0,)):
        """Waits for its end, and says what it took."""
        _, status, usage = os.wait4(self.process.pid, 0)
        under_way.discard(self.process)
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        if code not in codes:
            raise Failed(f"{self.name} ended with {code}: {self.last_words()}")
        return Spent(
            wall_s=time.monotonic() - self.began,
            cpu_s=usage.ru_utime + usage.ru_stime,
            rss_bytes=usage.ru_maxrss * 1024,
        )

    def last_words(self):
        with open(self.log, errors="replace") as log:
            lines = [line.strip() for line in log if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"


def spend(command, log, environment=None, codes=(0,)):
    """Runs a command to its end."""
    return Running(command, log, environment).wait(codes)
