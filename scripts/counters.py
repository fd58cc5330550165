#!/usr/bin/env python3
"""Counts what acceptance costs: syncs and bytes written for each message, with 64 concurrent senders.

Counters, not times, so this is a test. The server runs under strace, which traces the sync calls alone (a seccomp
filter lets every other call pass untouched), and the kernel's own account in /proc/PID/io gives the bytes: `write_bytes`
is what went towards the disk, in whole pages; `wchar` is what was handed to write calls.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--mode", default="grouped")
    parser.add_argument("--no-strace", action="store_true", help="bytes only")
    arguments = parser.parse_args()
    if not pathlib.Path("/proc/self/io").exists():
        skip("no /proc/PID/io on this system")
    if not arguments.no_strace and not shutil.which("strace"):
        skip("strace is not installed")
    base = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-counters-", dir="/var/tmp"))
    log = base / "strace.log"
    # -D: the server stays our child, so signals and /proc are the server's.
    wrapper = [] if arguments.no_strace else ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={SYNCS}", "-e", "signal=none",
                                              "-o", str(log)]
    with Server(users=8, listeners=("smtp", "pop3"), directory=base, tls=False, wrapper=wrapper) as server:
        server.own = True

        def send(messages):
            done = subprocess.run(
                [program("posthouse-load"), "--target", "%s:%d" % server.address("smtp"), "--users", "8", "--domain", DOMAIN,
                 "--connections", str(arguments.connections), "--messages", str(messages), "--size", str(arguments.size),
                 "--mode", arguments.mode], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=600)
            line = json.loads(done.stdout)
            if done.returncode != 0 or line["messages"] != messages:
                sys.exit(f"FAIL: the load did not go through: {line}")
            return line

        # The first messages make the first segments and index pages: not what a message costs.
        send(500)
        before, calls_before = io(server.pid), {} if arguments.no_strace else traced(log)
        line = send(arguments.messages)
        after, calls_after = io(server.pid), {} if arguments.no_strace else traced(log)
    octets = arguments.messages * arguments.size
    ratio = (after["write_bytes"] - before["write_bytes"]) / octets
    handed = (after["wchar"] - before["wchar"]) / octets
    calls = {name: calls_after[name] - calls_before.get(name, 0) for name in sorted(calls_after)}
    syncs = sum(calls.values()) / arguments.messages
    print(f"{arguments.messages} messages of {arguments.size} octets, {arguments.connections} senders ({arguments.mode}), {line['rate']:.0f}/s")
    failed = ratio > TARGET_BYTES
    print(f"bytes written for each message byte: {ratio:.3f} in pages, {handed:.3f} handed to write calls; "
          f"target {TARGET_BYTES}: {'FAIL' if failed else 'PASS'}")
    if not arguments.no_strace:
        if not calls:
            sys.exit("FAIL: not one sync was seen: either nothing is durable or strace saw nothing")
        too_many = syncs > TARGET_SYNCS
        failed |= too_many
        listed = ", ".join(f"{name} {count}" for name, count in calls.items())
        print(f"syncs for each message: {syncs:.4f} ({listed}); target {TARGET_SYNCS}: {'FAIL' if too_many else 'PASS'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
