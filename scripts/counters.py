#!/usr/bin/env python3
"""Counts what acceptance costs: syncs and bytes written for each message, with 64 concurrent senders.

Counters, not times, so this is a test. The kernel's own account in /proc/PID/io gives the bytes (`write_bytes` is what went
towards the disk, in whole pages; `wchar` is what was handed to write calls, replies to clients included). The sync calls are counted
by a small library in front of libc's (`support/count_syncs.c`, built here), which does not slow the server down: under a tracer it is six
times slower, and other groups come together. `--strace` counts once more under strace, to show that both see the same calls.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import struct
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from server import DOMAIN, Server, program, skip

SYNCS = "fsync,fdatasync,msync,sync,syncfs"
TARGET_SYNCS = 0.1
TARGET_BYTES = 1.15


def io(pid):
    return {key: int(value) for key, value in
            (line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())}


def traced(log):
    """How often each call was made until now."""
    counts = {}
    for name in re.findall(r"^\d+\s+(\w+)\(", log.read_text(errors="replace"), re.MULTILINE):
        counts[name] = counts.get(name, 0) + 1
    return counts


def counting_library(base):
    """Builds the library that counts; what the server's environment needs to load it."""
    library, count = base / "count_syncs.so", base / "syncs"
    source = pathlib.Path(__file__).resolve().parent / "support" / "count_syncs.c"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    count.write_bytes(bytes(8))
    return count, {"LD_PRELOAD": str(library), "COUNT_SYNCS": str(count)}


def measure(arguments, directory, wrapper, counters):
    """Sends the messages to a fresh server; the load's own figures, and what `counters` says before and after."""
    with Server(users=64, listeners=("smtp", "pop3"), directory=directory, tls=False, wrapper=wrapper) as server:
        server.own = True

        def send(messages):
            done = subprocess.run(
                [program("posthouse-load"), "--target", "%s:%d" % server.address("smtp"), "--users", "64", "--domain", DOMAIN,
                 "--connections", str(arguments.connections), "--messages", str(messages), "--size", str(arguments.size),
                 "--mode", arguments.mode], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=600)
            line = json.loads(done.stdout)
            if done.returncode != 0 or line["messages"] != messages:
                sys.exit(f"FAIL: the load did not go through: {line}")
            return line

        # The first messages make the first segments and index pages: not what a message costs.
        send(500)
        before = counters(server.pid)
        line = send(arguments.messages)
        return line, before, counters(server.pid)


def verdict(what, figure, target):
    print(f"{what}; target {target}: {'FAIL' if figure > target else 'PASS'}")
    return figure > target


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--mode", default="grouped")
    parser.add_argument("--strace", action="store_true", help="count syncs once more under strace, and compare")
    arguments = parser.parse_args()
    if not pathlib.Path("/proc/self/io").exists():
        skip("no /proc/PID/io on this system")
    if not shutil.which("cc"):
        skip("no C compiler to build the counting library")
    with tempfile.TemporaryDirectory(prefix="posthouse-counters-", dir="/var/tmp") as directory:
        return run(arguments, pathlib.Path(directory))


def run(arguments, base):
    count, environment = counting_library(base)
    counted = lambda: struct.unpack("=Q", count.read_bytes()[:8])[0]
    wrapper = ["env", *(f"{name}={value}" for name, value in environment.items())]
    if arguments.strace:
        if not shutil.which("strace"):
            skip("strace is not installed")
        log = base / "strace.log"
        # -D: the server stays our child, so signals and /proc are the server's.
        wrapper = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={SYNCS}", "-e", "signal=none", "-o", str(log), *wrapper]
    line, before, after = measure(arguments, base / "instance", wrapper, lambda pid: (io(pid), counted()))
    octets = arguments.messages * arguments.size
    print(f"{arguments.messages} messages of {arguments.size} octets, {arguments.connections} senders ({arguments.mode}), {line['rate']:.0f}/s")
    ratio = (after[0]["write_bytes"] - before[0]["write_bytes"]) / octets
    handed = (after[0]["wchar"] - before[0]["wchar"]) / octets
    syncs = (after[1] - before[1]) / arguments.messages
    if after[1] == before[1]:
        sys.exit("FAIL: not one sync was seen: either nothing is durable or the counting library saw nothing")
    if arguments.strace:
        # The figures of a server under a tracer are not its own; here only the two counts are compared.
        seen = sum(traced(log).values())
        print(f"strace saw {seen} sync calls in the server's whole life, the library {counted()}: {'PASS' if seen == counted() else 'FAIL'}")
        return 0 if seen == counted() else 1
    failed = verdict(f"bytes written for each message byte: {ratio:.3f} in pages, {handed:.3f} handed to write calls", ratio, TARGET_BYTES)
    failed |= verdict(f"syncs for each message: {syncs:.4f}", syncs, TARGET_SYNCS)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
