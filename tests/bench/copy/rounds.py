"""Copies one table with several programs, in alternating order, and tells what each took.

Called by tests/bench/copy/run, which starts the server and says what is measured.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import daemon
import spend
import table

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = "BenchSource"
MIB = 1 << 20
# Its backup starts so many threads, and sleeps for a second after each.
DYNAMODUMP_STARTS_S = 25.0


@dataclasses.dataclass
class Copied:
    """One copy by one program."""

    spent: spend.Spent
    # Until it read the first item, as far as it is waiting that does not depend on the table.
    waited_s: float
    # Until all items were in the target, from the start.
    written_s: float
    unequal: dict


def dynamirror(options, target):
    """The daemon from its start until it has drained: with control table, leases, stream and checkpoints."""
    worker = daemon.Daemon(options.dynamirror, options.endpoint, SOURCE, target, options.work)
    worker.start()
    waited_s = worker.until("the first page", daemon.begun)
    written_s = worker.until("the last segment", daemon.written)
    worker.until("the consistent state", daemon.consistent)
    return worker.stop(), waited_s, written_s


def dynamodump(options, target):
    """To disk and from there: the way it has. The tables are there before, like everybody's."""
    dump = f"{options.work}/{target}.dump"
    host, port = options.endpoint.removeprefix("http://").split(":")
    common = [options.dynamodump, "--region", daemon.REGION, "--host", host, "--port", port, "--accessKey", "bench",
              "--secretKey", "bench", "--dumpPath", dump, "--srcTable", SOURCE, "--log", "WARNING"]
    log = f"{options.work}/{target}.log"
    spent = spend.spend([*common, "--mode", "backup"], log)
    spent.add(spend.spend(
        [*common, "--mode", "restore", "--destTable", target, "--dataOnly", "--skipThroughputUpdate"], log))
    shutil.rmtree(dump)
    return spent, DYNAMODUMP_STARTS_S, spent.wall_s


def copy_dynamodb_table(options, target):
    environment = {"NODE_PATH": options.node_modules, "AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE": "1"}
    command = ["node", f"{HERE}/copy.js", options.endpoint, daemon.REGION, SOURCE, target]
    spent = spend.spend(command, f"{options.work}/{target}.log", environment)
    return spent, 0.0, spent.wall_s


CONTENDERS = {
    "dynamirror": dynamirror,
    "dynamodump": dynamodump,
    "copy-dynamodb-table": copy_dynamodb_table,
}


def run(options, server, name, round_number):
    target = f"Bench-{name}-{round_number}"
    table.like(server, SOURCE, target)
    copied = Copied(*CONTENDERS[name](options, target), table.compare(server, SOURCE, target))
    server.delete(target)
    return copied


def rounds(options, server):
    """What each program took in each round, and why a program is not among them."""
    results, refused = {name: [] for name in options.only}, {}
    for number in range(options.rounds):
        # Every second round the other way about, so that nobody always comes first or last.
        for name in options.only if number % 2 == 0 else reversed(options.only):
            if name in refused:
                continue
            try:
                copied = run(options, server, name, number)
            except spend.Failed as error:
                refused[name] = str(error)
                print(f"round {number + 1}: {name}: cannot run here: {error}", file=sys.stderr, flush=True)
                continue
            results[name].append(copied)
            print(f"round {number + 1}: {name}: {copied.spent.wall_s:.1f} s, {copied.spent.cpu_s:.2f} CPU s, "
                  f"{copied.unequal}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return results, refused


def equality(copies):
    worst = max((copied.unequal for copied in copies), key=lambda counts: sum(counts.values()))
    told = ", ".join(f"{count} {kind}" for kind, count in worst.items() if count)
    return told or "equal"


def report(options, bytes_total, results, refused):
    print(f"\n{options.items} items, {bytes_total / 1e6:.1f} MB of JSON, {options.rounds} rounds, medians; "
          f"on {options.server}, {os.cpu_count()} cores\n")
    print("| | wall s | waited s | copying s | items/s | MB/s | client CPU s | CPU µs/item | items/CPU s | MB/CPU s | peak MiB | target |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in options.only:
        copies = results[name]
        if name in refused or not copies:
            print(f"| {name} | cannot run here: {refused.get(name)} {'|' * 11}")
            continue
        wall_s, waited_s, copying_s, cpu_s, rss = (statistics.median(values) for values in zip(*(
            (c.spent.wall_s, c.waited_s, c.written_s - c.waited_s, c.spent.cpu_s, c.spent.rss_bytes) for c in copies)))
        print(f"| {name} | {wall_s:.1f} | {waited_s:.1f} | {copying_s:.1f} | {options.items / copying_s:.0f} | "
              f"{bytes_total / copying_s / 1e6:.2f} | {cpu_s:.2f} | {cpu_s / options.items * 1e6:.0f} | "
              f"{options.items / cpu_s:.0f} | {bytes_total / cpu_s / 1e6:.1f} | {rss / MIB:.0f} | {equality(copies)} |")
    ours = results.get("dynamirror")
    for name in options.only:
        theirs = results[name]
        if not ours or not theirs or name in refused or name == "dynamirror":
            continue
        # Of the same round, so that what else the machine did falls out as far as it can.
        cpu = statistics.median(b.spent.cpu_s / a.spent.cpu_s for a, b in zip(ours, theirs))
        copying = statistics.median((b.written_s - b.waited_s) / (a.written_s - a.waited_s) for a, b in zip(ours, theirs))
        wall = statistics.median(b.spent.wall_s / a.spent.wall_s for a, b in zip(ours, theirs))
        print(f"\n{name} / dynamirror: client CPU {cpu:.1f}, copying {copying:.2f}, wall {wall:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--server", required=True, help="its name, for the report")
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--only", type=lambda names: names.split(","), default=list(CONTENDERS))
    parser.add_argument("--work", required=True, help="directory for dumps, logs and configuration")
    parser.add_argument("--dynamirror")
    parser.add_argument("--dynamodump")
    parser.add_argument("--node-modules")
    options = parser.parse_args()
    for name in options.only:
        if name not in CONTENDERS:
            parser.error(f"{name} is none of {', '.join(CONTENDERS)}")
    os.makedirs(options.work, exist_ok=True)
    server = table.Server(options.endpoint)
    bytes_total = table.fill(server, SOURCE, options.items)
    report(options, bytes_total, *rounds(options, server))


if __name__ == "__main__":
    main()
