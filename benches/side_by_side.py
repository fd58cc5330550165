#!/usr/bin/env python3
"""Posthouse beside established servers: durable acceptance over loopback, interleaved in one run.

For each scenario (connections, size, mode) and each round every contender is measured once, in turn, on the same
file system, with nothing else running; the order turns with every round. Rates of one machine move from day to
day, so what counts is the ratio within a round; the median of the rounds' ratios is compared with the target.
CPU time is that of all processes of the server, from /proc, children that ended included.

Fails (exit code 1) when a target is missed only with --strict: a timing is a benchmark, not a test. It always fails when
a message is refused or a connection breaks.

A new contender is a class with `name`, `durable`, `address`, `pid`, `start`, `stop` and `clean`, entered in CONTENDERS.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from peer import postfix
from server import DOMAIN, Server, free_port, program, skip

# Ratio to Postfix wanted at 4 KiB, grouped; p50 in ms wanted at one connection.
TARGETS = {1: 3.0, 10: 6.0, 50: 15.0, 200: 15.0}
P50_AT_ONE = 2.0
USERS = 10
TICK = os.sysconf("SC_CLK_TCK")


class Posthouse:
    name = "Posthouse"
    durable = True

    def __init__(self, directory, connections):
        limit = connections + 100
        self.server = Server(users=USERS, listeners=("smtp", "pop3"), directory=directory, tls=False,
                             settings={"policy.connections": limit, "policy.connections_per_address": limit})

    def start(self):
        self.server.start()
        self.address = self.server.address("smtp")
        self.pid = self.server.pid
        return self

    def clean(self):
        """The instance grows, as it would in service."""

    def stop(self):
        self.server.stop()


CONTENDERS = {
    "postfix": (postfix.reason_to_skip, lambda base, most: postfix.Postfix(base / "postfix", free_port(), most + 50, hold=True)),
    "posthouse": (lambda: None, lambda base, most: Posthouse(base / "posthouse", most)),
}


def cpu_seconds(pid):
    """User and system time of a process, its living descendants, and its dead children."""
    fields = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = pathlib.Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            fields[int(entry)] = text.rpartition(")")[2].split()
    family, before = {pid}, 0
    while len(family) != before:
        before = len(family)
        family |= {child for child, stat in fields.items() if int(stat[1]) in family}
    ticks = 0
    for member in family:
        if stat := fields.get(member):
            ticks += int(stat[11]) + int(stat[12]) + int(stat[13]) + int(stat[14])
    return ticks / TICK


def measure(contender, connections, size, mode, seconds):
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = cpu_seconds(contender.pid)
    done = subprocess.run(
        [program("posthouse-load"), "--target", "%s:%d" % contender.address, "--connections", str(connections),
         "--size", str(size), "--mode", mode, "--seconds", str(seconds), "--users", str(USERS), "--domain", DOMAIN],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=seconds + 180)
    after = cpu_seconds(contender.pid)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = json.loads(done.stdout)
    if done.returncode != 0 or not line["messages"]:
        raise RuntimeError(f"{contender.name}, {connections} connections: {line['errors']} errors, {line['unknown']} unknown, "
                           f"{line['messages']} accepted: {line['first_error']}")
    messages = line["messages"]
    line["server_cpu_us"] = (after - before) / messages * 1e6
    line["load_cpu_us"] = (used.ru_utime + used.ru_stime - own.ru_utime - own.ru_stime) / messages * 1e6
    contender.clean()
    return line


def median(lines, key):
    return statistics.median(line[key] for line in lines)


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=numbers, default=[1, 10, 50, 200])
    parser.add_argument("--sizes", type=numbers, default=[4096])
    parser.add_argument("--modes", type=lambda text: text.split(","), default=["grouped"], help="grouped, bdat, plain")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--contenders", type=lambda text: text.split(","), default=list(CONTENDERS))
    parser.add_argument("--directory", default="/var/tmp", help="where both keep their mail; not a memory file system")
    parser.add_argument("--json", type=pathlib.Path, help="write every measurement to this file")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it runs, measures nothing")
    parser.add_argument("--strict", action="store_true", help="exit code 1 when a target is missed")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.5
        arguments.connections = [1, 50]
    for name in list(arguments.contenders):
        if reason := CONTENDERS[name][0]():
            print(f"SKIP {name}: {reason}", flush=True)
            arguments.contenders.remove(name)
    if "posthouse" not in arguments.contenders or len(arguments.contenders) < 2:
        skip("nobody to compare with")

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(arguments.connections)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(most + 500, hard)), hard))
    base = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-bench-", dir=arguments.directory))
    base.chmod(0o755)
    file_system = subprocess.run(["stat", "-f", "-c", "%T", base], capture_output=True, text=True).stdout.strip()
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, file system {file_system}, "
          f"{arguments.rounds} rounds of {arguments.seconds:g} s each", flush=True)
    running, records, missed = [], [], []
    try:
        for name in arguments.contenders:
            contender = CONTENDERS[name][1](base, most)
            running.append(contender.start())
        for mode in arguments.modes:
            for size in arguments.sizes:
                for connections in arguments.connections:
                    results = {contender.name: [] for contender in running}
                    for number in range(arguments.rounds):
                        turn = number % len(running)
                        for contender in running[turn:] + running[:turn]:
                            line = measure(contender, connections, size, mode, arguments.seconds)
                            line.update(contender=contender.name, round=number)
                            results[contender.name].append(line)
                            records.append(line)
                            print(f"  {connections} connections, round {number + 1}: {contender.name} {line['rate']:.0f}/s", flush=True)
                    report(mode, size, connections, results, missed)
    finally:
        for contender in running:
            contender.stop()
        shutil.rmtree(base, ignore_errors=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1) + "\n")
    if missed:
        print("targets missed: " + "; ".join(missed))
    return 1 if missed and arguments.strict else 0


def report(mode, size, connections, results, missed):
    print(f"{mode}, {size} octets, {connections} connections:")
    print(f"  {'':12}{'msg/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'server CPU us/msg':>19}{'load CPU us/msg':>17}{'ratio':>8}")
    ours = results[Posthouse.name]
    for name, lines in results.items():
        ratio = statistics.median(mine["rate"] / line["rate"] for mine, line in zip(ours, lines))
        print(f"  {name:12}{median(lines, 'rate'):9.0f}{median(lines, 'p50_ms'):9.2f}{median(lines, 'p99_ms'):9.2f}"
              f"{median(lines, 'server_cpu_us'):19.0f}{median(lines, 'load_cpu_us'):17.0f}"
              + ("" if name == Posthouse.name else f"{ratio:7.1f}x"), flush=True)
        wanted = TARGETS.get(connections)
        if name == postfix.Postfix.name and wanted and size == 4096 and mode == "grouped":
            verdict(f"{wanted:g}x {name} at {connections} connections", f"{ratio:.1f}x", ratio >= wanted, missed)
    if connections == 1 and size == 4096 and mode == "grouped":
        p50 = median(ours, "p50_ms")
        verdict(f"p50 below {P50_AT_ONE:g} ms at 1 connection", f"{p50:.2f} ms", p50 < P50_AT_ONE, missed)


def verdict(target, value, passed, missed):
    print(f"  target {target}: {value}: {'PASS' if passed else 'FAIL'}", flush=True)
    if not passed:
        missed.append(f"{target} ({value})")


if __name__ == "__main__":
    sys.exit(main())
