#!/usr/bin/env python3
"""What an idle SMTP connection costs in user space: the proportional set size of the server before and after.

1,000 connections are greeted, say EHLO and then nothing. The kernel's socket buffers come on top and are the same
for every server. Exit code 1 above the target.
"""

import argparse
import pathlib
import re
import resource
import socket
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from server import Server, skip

TARGET_KIB = 8.0


def pss_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE).group(1))


def greet(address):
    connection = socket.create_connection(address, timeout=30)
    stream = connection.makefile("rb")
    assert stream.readline().startswith(b"220"), "no greeting"
    connection.sendall(b"EHLO client.example\r\n")
    while (line := stream.readline())[3:4] == b"-":
        pass
    assert line.startswith(b"250"), line
    stream.close()
    return connection


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--target-kib", type=float, default=TARGET_KIB)
    arguments = parser.parse_args()
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        skip("no /proc/PID/smaps_rollup on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = arguments.connections + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        skip(f"only {hard} open files are allowed")
    # The server inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    settings = {"policy.connections": arguments.connections + 100, "policy.connections_per_address": arguments.connections + 100}
    with Server(listeners=("smtp", "pop3"), tls=False, settings=settings) as server:
        # What the first connections of all cost once is not a connection's price.
        for connection in [greet(server.address("smtp")) for _ in range(20)]:
            connection.close()
        time.sleep(0.5)
        before = pss_kib(server.pid)
        held = [greet(server.address("smtp")) for _ in range(arguments.connections)]
        time.sleep(1.0)
        after = pss_kib(server.pid)
        for connection in held:
            connection.close()
        time.sleep(1.0)
        closed = pss_kib(server.pid)
    each = (after - before) / arguments.connections
    verdict = "PASS" if each <= arguments.target_kib else "FAIL"
    print(f"{arguments.connections} idle SMTP connections after EHLO, without TLS: {each:.2f} KiB each "
          f"(PSS {before} KiB before, {after} KiB with them, {closed} KiB after); target {arguments.target_kib:g} KiB: {verdict}")
    return 0 if verdict == "PASS" else 1


if __name__ == "__main__":
    sys.exit(main())
