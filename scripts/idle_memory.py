#!/usr/bin/env python3
"""What an idle SMTP connection costs in user space: the proportional set size of the server before and after.

10,000 connections are greeted, say EHLO and then nothing; with --tls each of them after a TLS handshake. The kernel's
socket buffers come on top and are the same for every server. Exit code 1 above the target.
"""

import argparse
import pathlib
import re
import resource
import socket
import ssl
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from server import Server, skip

# In clear and with TLS.
TARGET_KIB = {False: 4.0, True: 24.0}


def pss_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE).group(1))


def greet(address, context):
    connection = socket.create_connection(address, timeout=30)
    if context:
        connection = context.wrap_socket(connection, server_hostname="mail.example.test")
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
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--target-kib", type=float)
    arguments = parser.parse_args()
    target = TARGET_KIB[arguments.tls] if arguments.target_kib is None else arguments.target_kib
    listener, context = "smtp", None
    if arguments.tls:
        listener, context = "smtps", ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        skip("no /proc/PID/smaps_rollup on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = arguments.connections + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        skip(f"only {hard} open files are allowed")
    # The server inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    settings = {"policy.connections": arguments.connections + 100, "policy.connections_per_address": arguments.connections + 100}
    with Server(listeners=(listener, "pop3"), tls=arguments.tls, settings=settings) as server:
        # What the first connections of all cost once is not a connection's price.
        for connection in [greet(server.address(listener), context) for _ in range(20)]:
            connection.close()
        time.sleep(0.5)
        before = pss_kib(server.pid)
        held = [greet(server.address(listener), context) for _ in range(arguments.connections)]
        time.sleep(1.0)
        after = pss_kib(server.pid)
        for connection in held:
            connection.close()
        time.sleep(1.0)
        closed = pss_kib(server.pid)
    each = (after - before) / arguments.connections
    verdict = "PASS" if each <= target else "FAIL"
    print(f"{arguments.connections} idle SMTP connections after EHLO, {'with' if arguments.tls else 'without'} TLS: {each:.2f} KiB each "
          f"(PSS {before} KiB before, {after} KiB with them, {closed} KiB after); target {target:g} KiB: {verdict}")
    return 0 if verdict == "PASS" else 1


if __name__ == "__main__":
    sys.exit(main())
