"""Runs `dynamirror run` for one source and one replica on one server, and reads how far it is from its metrics."""

import os
import socket
import time
import urllib.error
import urllib.request

import spend

REGION = "eu-west-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": REGION}
# Longer than any copy here takes.
PATIENCE_S = 3600
# Asking costs the daemon a fraction of a millisecond.
ASK_EVERY_S = 0.1

CONFIG = """\
[control]
table = "{control}"
region = "{region}"
endpoint_url = "{endpoint}"
create = true

[http]
listen = "127.0.0.1:{port}"

[heartbeat]
mode = "off"

[[replications]]
name = "bench"

[replications.source]
table = "{source}"
region = "{region}"
endpoint_url = "{endpoint}"

[[replications.replicas]]
name = "target"
table = "{target}"
region = "{region}"
endpoint_url = "{endpoint}"
{copy}"""


def sample(metrics, name, **labels):
    """The sum of the samples of this name with these labels; zero without any."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(value for series, value in metrics.items()
               if series.split("{")[0] == name and all(label in series for label in wanted))


def begun(metrics):
    """Whether an item was read for the copy."""
    return sample(metrics, "dynamirror_copy_items_total") > 0


def written(metrics):
    """Whether the replica has all items of the copy."""
    total, finished = (sample(metrics, "dynamirror_copy_segments", of=of) for of in ("total", "finished"))
    return 0 < total == finished


def consistent(metrics):
    """Whether the replica is known to equal its source."""
    return sample(metrics, "dynamirror_copy_consistent_since_timestamp_seconds") > 0


class Daemon:
    """A worker whose state is in a control table of its own, named after `target`."""

    def __init__(self, program, endpoint, source, target, work, copy=True):
        os.makedirs(work, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.program, self.config, self.log = program, f"{work}/{target}.toml", f"{work}/{target}.log"
        with open(self.config, "w") as config:
            config.write(CONFIG.format(
                control=f"control-{target}", region=REGION, endpoint=endpoint, port=self.port, source=source,
                target=target, copy='copy = "auto"\n' if copy else ""))

    def start(self):
        self.running = spend.Running([self.program, "run", "--config", self.config], self.log, CREDENTIALS)

    def until(self, what, arrived):
        """Waits until `arrived` says so of the metrics. Returns the seconds since the start."""
        deadline = time.monotonic() + PATIENCE_S
        while not arrived(self.metrics()):
            if self.running.ended():
                self.running.wait(codes=())
            if time.monotonic() > deadline:
                self.stop()
                raise spend.Failed(f"{what} did not come within {PATIENCE_S} s: {self.running.last_words()}")
            time.sleep(ASK_EVERY_S)
        return time.monotonic() - self.running.began

    def metrics(self):
        """Values by name and labels; none while it is not up."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return {}
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def stop(self):
        self.running.stop()
        return self.running.wait()
