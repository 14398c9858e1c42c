"""Verifies two tables with `dynamirror verify`, equal and with planted differences, and tells what it took.

Called by tests/bench/verify/run, which starts the server and says what is measured.
"""

import argparse
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import daemon
import spend
import table

SOURCE, TARGET = "BenchSource", "BenchTarget"
MIB = 1 << 20
# Of the last round's tables: a tenth of a per cent.
CHANGED = 1000
# `dynamirror` ends with this for confirmed differences.
DIFFERENT = 1


def verify(options, name, flags, codes):
    log = f"{options.work}/{name}.log"
    if os.path.exists(log):
        os.remove(log)
    command = [options.dynamirror, "verify", "bench", "--config", options.config, "--grace", "1s", *flags]
    return spend.spend(command, log, daemon.CREDENTIALS, codes=codes)


def rounds(options, server):
    """What each way took in each round, and what was planted."""
    ways = {
        "verify, equal": [],
        "verify --signature-only, equal": ["--signature-only"],
    }
    results = {name: [] for name in ways}
    for number in range(options.rounds):
        for name in ways if number % 2 == 0 else reversed(ways):
            spent = verify(options, f"verify-{number}", ways[name], (0,))
            results[name].append(spent)
            tell(name, number, spent)
    planted = table.change(server, TARGET, max(options.items // CHANGED, 3))
    name = "verify, " + ", ".join(f"{count} {kind}" for kind, count in planted.items())
    results[name] = []
    for number in range(options.rounds):
        spent = verify(options, f"different-{number}", [], (DIFFERENT,))
        results[name].append(spent)
        tell(name, number, spent)
    return results


def tell(name, number, spent):
    print(f"round {number + 1}: {name}: {spent.wall_s:.1f} s, {spent.cpu_s:.2f} CPU s, load {os.getloadavg()[0]:.1f}",
          file=sys.stderr, flush=True)


def report(options, bytes_total, results):
    print(f"\n{options.items} items in each of two tables, {bytes_total / 1e6:.1f} MB of JSON each, {options.rounds} "
          f"rounds, medians; on {options.server}, {os.cpu_count()} cores\n")
    print("| | wall s | items/s | CPU s | CPU µs/item | items/CPU s | MB read/CPU s | peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, spent in results.items():
        wall_s, cpu_s, rss = (statistics.median(getattr(one, what) for one in spent)
                              for what in ("wall_s", "cpu_s", "rss_bytes"))
        print(f"| {name} | {wall_s:.1f} | {options.items / wall_s:.0f} | {cpu_s:.2f} | {cpu_s / options.items * 1e6:.1f} | "
              f"{options.items / cpu_s:.0f} | {2 * bytes_total / cpu_s / 1e6:.0f} | {rss / MIB:.0f} |")
    print("\nAn item counts once for both tables.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--server", required=True, help="its name, for the report")
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--work", required=True, help="directory for logs and configuration")
    parser.add_argument("--dynamirror", required=True)
    options = parser.parse_args()
    server = table.Server(options.endpoint)
    bytes_total = table.fill(server, SOURCE, options.items)
    table.like(server, SOURCE, TARGET)
    server.put_all(TARGET, server.scan(SOURCE))
    # No worker runs: nothing is written to the tables.
    worker = daemon.Daemon(options.dynamirror, options.endpoint, SOURCE, TARGET, options.work, copy=False)
    options.config = worker.config
    spend.spend([options.dynamirror, "init", "--config", options.config], f"{options.work}/init.log", daemon.CREDENTIALS)
    report(options, bytes_total, rounds(options, server))


if __name__ == "__main__":
    main()
