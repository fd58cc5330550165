#!/usr/bin/env python3
"""Posthouse beside established servers: acceptance over loopback, interleaved in one run.

For each scenario (mode, TLS, size, connections) and each round every contender is measured once, in turn, on the same
file system, with nothing else running; the order turns with every round. Rates of one machine move from day to
day, so what counts is the ratio within a round; the median of the rounds' ratios is compared with the target.

CPU time is that of all processes of the server, from /proc, children that ended included; memory is their proportional set
size (PSS) right after the load. With `--own-disk` (root) the mail lies on a file system of its own on a loop device, whose counters give the
bytes and flushes that each message cost, the file system's journal included.

"Sink" is `posthouse-load --sink`: our machine on sockets, which keeps nothing. Where Posthouse comes near it, the generator's own
processor time is the bound. OpenSMTPD answers 250 before anything is on disk (no sync at all): its row stands for comparison only.

Fails (exit code 1) when a target is missed only with --strict: a timing is a benchmark, not a test. It always fails when
one of ours refuses a message or breaks a connection; what a peer fails at is printed.

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
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from peer import exim, mail, opensmtpd, postfix
from server import DOMAIN, Server, free_port, program, skip

# Ratio to the best durable peer wanted, by mode and connections, at 4 KiB without TLS.
TARGETS = {"grouped": {1: 3.5, 10: 9.0, 50: 25.0, 200: 35.0, 1000: 25.0}, "bdat": {200: 45.0}}
# At 50 connections, grouped, 4 KiB: part of the best durable peer's CPU; device bytes for each byte of a message.
CPU_PART = 1 / 20
DEVICE_PART = 1.15
USERS = 10
TICK = os.sysconf("SC_CLK_TCK")


class Posthouse:
    name = "Posthouse"
    durable = True

    def __init__(self, directory, connections):
        limit = connections + 100
        self.server = Server(users=USERS, listeners=("smtp", "pop3"), directory=directory,
                             settings={"policy.connections": limit, "policy.connections_per_address": limit})

    def start(self):
        self.server.start()
        self.address = self.server.address("smtp")
        self.pid = self.server.pid
        return self

    def clean(self):
        """The mail is taken away, as with the others, and its space is given back: segments are written again."""
        for user in self.server.users:
            self.server.run("account", "remove", "--instance", self.server.instance, "--address", user)
            self.server.add_account(user)
        self.server.run("compact", "--instance", self.server.instance)

    def stop(self):
        self.server.stop()


class Sink:
    name = "Sink"
    durable = False
    has_tls = False

    def __init__(self):
        self.process = None

    def start(self):
        self.process = subprocess.Popen([program("posthouse-load"), "--sink", "--target", "127.0.0.1:0"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        host, _, port = self.process.stdout.readline().split()[1].rpartition(":")
        self.address = (host, int(port))
        self.pid = self.process.pid
        return self

    def clean(self):
        """There is nothing."""

    def stop(self):
        self.process.kill()
        self.process.wait()


def peer(module, make, directory, most):
    options = {"hold": True, "processes": most + 50}
    if make is not opensmtpd.OpenSmtpd:
        options["certificate"] = mail.certificate(directory)
    contender = make(directory / make.name, free_port(), **options)
    contender.has_tls = "certificate" in options
    return contender


# Name -> (why it cannot run here, or None; makes it in a directory for so many connections).
CONTENDERS = {
    "postfix": (postfix.reason_to_skip, lambda base, most: peer(postfix, postfix.Postfix, base, most)),
    "exim": (exim.reason_to_skip, lambda base, most: peer(exim, exim.Exim, base, most)),
    "opensmtpd": (opensmtpd.reason_to_skip, lambda base, most: peer(opensmtpd, opensmtpd.OpenSmtpd, base, most)),
    "sink": (lambda: None, lambda base, most: Sink()),
    "posthouse": (lambda: None, lambda base, most: Posthouse(base / "posthouse", most)),
}


def family(pid):
    """A process and its living descendants: id -> the fields of its /proc stat behind the name."""
    fields = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = pathlib.Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            fields[int(entry)] = text.rpartition(")")[2].split()
    members, before = {pid}, 0
    while len(members) != before:
        before = len(members)
        members |= {child for child, stat in fields.items() if int(stat[1]) in members}
    return {member: fields[member] for member in members if member in fields}


def cpu_seconds(pid):
    """User and system time of a process, its living descendants, and its dead children."""
    return sum(sum(map(int, stat[11:15])) for stat in family(pid).values()) / TICK


def memory_mib(pid):
    """Proportional set size of a process and its living descendants."""
    total = 0
    for member in family(pid):
        try:
            text = pathlib.Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


class Disk:
    """A file system of its own on a loop device, whose counters nobody else moves; without `own`, a plain directory."""

    def __init__(self, parent, own, gibibytes=16):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-bench-", dir=parent))
        self.base.chmod(0o755)
        self.device = None
        self.mounted = None
        if own:
            image = self.base / "image"
            with open(image, "wb") as file:
                file.truncate(gibibytes << 30)
            subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
            self.mounted = self.base / "mail"
            self.mounted.mkdir()
            self.device = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image], check=True, capture_output=True,
                                         text=True).stdout.strip()
            subprocess.run(["mount", self.device, self.mounted], check=True)
            self.mounted.chmod(0o755)

    @property
    def directory(self):
        return self.mounted or self.base

    def counters(self):
        """Bytes written and flushes; None where they are not this run's alone."""
        if self.device is None:
            return None
        fields = pathlib.Path(f"/sys/block/{pathlib.Path(self.device).name}/stat").read_text().split()
        return int(fields[6]) * 512, int(fields[15])

    def sync(self):
        if self.mounted:
            subprocess.run(["sync", "-f", self.mounted], check=True)

    def remove(self):
        if self.mounted:
            subprocess.run(["umount", "--lazy", self.mounted], check=True)
            subprocess.run(["losetup", "--detach", self.device], check=True)
        shutil.rmtree(self.base, ignore_errors=True)


def measure(contender, scenario, seconds, disk):
    mode, tls, size, connections = scenario
    disk.sync()
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    before, disk_before = cpu_seconds(contender.pid), disk.counters()
    done = subprocess.run(
        [program("posthouse-load"), "--target", "%s:%d" % contender.address, "--connections", str(connections),
         "--size", str(size), "--mode", mode, "--seconds", str(seconds), "--users", str(USERS), "--domain", DOMAIN,
         *(["--tls"] if tls else [])],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=seconds + 300)
    after, disk_after = cpu_seconds(contender.pid), disk.counters()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = json.loads(done.stdout)
    messages = line["messages"]
    line["failed"] = done.returncode != 0 or not messages
    if line["failed"] and (contender.name in (Posthouse.name, Sink.name) or not messages):
        raise RuntimeError(f"{contender.name}, {connections} connections: {line['errors']} errors, {line['unknown']} unknown, "
                           f"{messages} accepted: {line['first_error']}")
    line["server_cpu_s"] = (after - before) / messages * 1000
    line["load_cpu_s"] = (used.ru_utime + used.ru_stime - own.ru_utime - own.ru_stime) / messages * 1000
    line["memory_mib"] = memory_mib(contender.pid)
    if disk_before:
        line["device_bytes"] = (disk_after[0] - disk_before[0]) / messages / size
        line["flushes"] = (disk_after[1] - disk_before[1]) / messages
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
    parser.add_argument("--tls", choices=("no", "yes", "both"), default="no")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--contenders", type=lambda text: text.split(","), default=list(CONTENDERS))
    parser.add_argument("--directory", default="/var/tmp", help="where all keep their mail; not a memory file system")
    parser.add_argument("--own-disk", action="store_true", help="a file system of its own there, whose writes and flushes are counted")
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
    disk = Disk(arguments.directory, arguments.own_disk)
    file_system = subprocess.run(["stat", "-f", "-c", "%T", disk.directory], capture_output=True, text=True).stdout.strip()
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, file system {file_system}, "
          f"{arguments.rounds} rounds of {arguments.seconds:g} s each", flush=True)
    running, records, missed = [], [], []
    wanted_tls = {"no": [False], "yes": [True], "both": [False, True]}[arguments.tls]
    scenarios = [(mode, tls, size, connections) for mode in arguments.modes for tls in wanted_tls for size in arguments.sizes
                 for connections in arguments.connections]
    try:
        for name in arguments.contenders:
            running.append(CONTENDERS[name][1](disk.directory, most).start())
        for contender in running * (0 if arguments.quick else 2):
            # As after some time in service: directories and logs have been written to before.
            measure(contender, ("plain", False, 4096, min(50, most)), arguments.seconds, disk)
        for scenario in scenarios:
            mode, tls, size, connections = scenario
            able = [contender for contender in running if not tls or getattr(contender, "has_tls", True)]
            if mode == "bdat":
                able = [contender for contender in able if contender.name != opensmtpd.OpenSmtpd.name]
            if mode == "grouped":
                # OpenSMTPD does not offer PIPELINING.
                able = [contender for contender in able if contender.name != opensmtpd.OpenSmtpd.name]
            results = {contender.name: [] for contender in able}
            for number in range(arguments.rounds):
                turn = number % len(able)
                for contender in able[turn:] + able[:turn]:
                    line = measure(contender, scenario, arguments.seconds, disk)
                    line.update(contender=contender.name, durable=contender.durable, round=number)
                    results[contender.name].append(line)
                    records.append(line)
            report(scenario, results, missed)
    finally:
        for contender in running:
            contender.stop()
        time.sleep(0.2)
        disk.remove()
        if arguments.json:
            arguments.json.write_text(json.dumps(records, indent=1) + "\n")
    if missed:
        print("targets missed: " + "; ".join(missed))
    return 1 if missed and arguments.strict else 0


def report(scenario, results, missed):
    mode, tls, size, connections = scenario
    counted = "device_bytes" in results[Posthouse.name][0]
    print(f"{mode}, {'TLS, ' if tls else ''}{size} octets, {connections} connections:")
    print(f"  {'':12}{'msg/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU s/1000':>12}{'load CPU':>10}{'MiB':>7}"
          + (f"{'dev bytes':>11}{'flushes':>9}" if counted else "") + f"{'ratio':>8}")
    ours = results[Posthouse.name]
    ratios = {}
    for name, lines in results.items():
        ratios[name] = statistics.median(mine["rate"] / line["rate"] for mine, line in zip(ours, lines))
        text = (f"  {name:12}{median(lines, 'rate'):9.0f}{median(lines, 'p50_ms'):9.2f}{median(lines, 'p99_ms'):9.2f}"
                f"{median(lines, 'server_cpu_s'):12.4f}{median(lines, 'load_cpu_s'):10.4f}{median(lines, 'memory_mib'):7.0f}")
        if counted:
            text += f"{median(lines, 'device_bytes'):10.2f}x{median(lines, 'flushes'):9.3f}"
        if name != Posthouse.name:
            text += f"{ratios[name]:7.1f}x"
        if not lines[0]["durable"]:
            text += "  (keeps nothing)" if name == Sink.name else "  (250 without a sync)"
        if failures := sum(line["errors"] + line["unknown"] for line in lines):
            text += f"  {failures} failures: {next(line['first_error'] for line in lines if line['first_error'])}"
        print(text, flush=True)
    durable = [name for name, lines in results.items() if name != Posthouse.name and lines[0]["durable"]]
    wanted = TARGETS.get(mode, {}).get(connections)
    if size != 4096 or tls or not wanted or not durable:
        return
    best = min(durable, key=ratios.get)
    verdict(f"{wanted:g}x the best durable peer, {mode}, {connections} connections", ratios[best], "x", ratios[best] >= wanted, missed)
    if connections == 50 and mode == "grouped":
        part = median(ours, "server_cpu_s") / min(median(results[name], "server_cpu_s") for name in durable)
        verdict(f"at most {CPU_PART:g} of the CPU of the best durable peer", part, "", part <= CPU_PART, missed)
        if counted:
            device = median(ours, "device_bytes")
            verdict(f"at most {DEVICE_PART:g} device bytes for each byte", device, "", device <= DEVICE_PART, missed)


def verdict(target, value, unit, passed, missed):
    print(f"  target {target}: {value:.3g}{unit}: {'PASS' if passed else 'MISSED'}", flush=True)
    if not passed:
        missed.append(f"{target} ({value:.3g}{unit})")


if __name__ == "__main__":
    sys.exit(main())
