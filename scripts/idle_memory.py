#!/usr/bin/env python3
"""What an SMTP connection costs in user space: the proportional set size of the server before and after.

10,000 connections are greeted, say EHLO and then nothing; with --tls each of them after a TLS handshake. The kernel's
socket buffers come on top and are the same for every server. Exit code 1 above the target.

With --state each connection is left where it holds most instead: `line` in the middle of the longest command line, `auth`
in the middle of the longest line of a login, `output` with commands pipelined whose replies are never read, `body` in
the middle of a message of --body-kib. 500 connections then; the targets are the bounds of docs/listeners.md.
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
# The same at worst, by state.
WORST_KIB = {
    "line": {False: 8.0, True: 24.0},
    "auth": {False: 24.0, True: 56.0},
    "output": {False: 96.0, True: 128.0},
    "body": {False: 480.0, True: 512.0},
}


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


def leave(connection, state, body_kib):
    """Brings a greeted connection into a state and leaves it there."""
    if state == "line":
        connection.sendall(b"MAIL FROM:<" + b"a" * 1000)
    elif state == "auth":
        connection.sendall(b"AUTH PLAIN\r\n")
        assert connection.recv(100).startswith(b"334"), "no challenge"
        connection.sendall(b"A" * 12000)
    elif state == "output":
        connection.setblocking(False)
        commands = b"NOOP\r\n" * 10000
        # Until nothing goes any more, that is until the server waits for its replies to be read.
        for _ in range(200):
            try:
                connection.send(commands)
            except (BlockingIOError, ssl.SSLWantWriteError):
                break
    elif state == "body":
        connection.sendall(b"MAIL FROM:<a@else.test>\r\nRCPT TO:<user1@example.test>\r\nDATA\r\n")
        said = b""
        while b"354" not in said:
            said += connection.recv(1000)
        connection.sendall(b"Subject: x\r\n\r\n" + (b"x" * 998 + b"\r\n") * body_kib)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int)
    parser.add_argument("--state", choices=["idle", *WORST_KIB], default="idle")
    parser.add_argument("--body-kib", type=int, default=512)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--target-kib", type=float)
    arguments = parser.parse_args()
    idle = arguments.state == "idle"
    arguments.connections = arguments.connections or (10_000 if idle else 500)
    target = arguments.target_kib or (TARGET_KIB if idle else WORST_KIB[arguments.state])[arguments.tls]
    listener, context = "smtp", None
    if arguments.tls:
        listener, context = "smtps", ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        skip("no /proc/PID/smaps_rollup on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = arguments.connections + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        arguments.connections, wanted = hard - 200, hard
        if arguments.connections < 100:
            skip(f"only {hard} open files are allowed")
        print(f"only {hard} open files are allowed: {arguments.connections} connections")
    # The server inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    settings = {f"policy.{name}": arguments.connections + 100
                for name in ("connections", "connections_per_address", "connections_per_network")}
    with Server(listeners=(listener, "pop3"), tls=arguments.tls, settings=settings) as server:
        # What the first connections of all cost once is not a connection's price.
        for connection in [greet(server.address(listener), context) for _ in range(20)]:
            connection.close()
        time.sleep(0.5)
        before = pss_kib(server.pid)
        held = [greet(server.address(listener), context) for _ in range(arguments.connections)]
        # The server takes what fills its side of a socket, and then the peer can send more.
        for _ in range(4 if arguments.state == "output" else 1):
            for connection in held:
                leave(connection, arguments.state, arguments.body_kib)
        time.sleep(1.0)
        after = pss_kib(server.pid)
        for connection in held:
            connection.close()
        time.sleep(1.0)
        closed = pss_kib(server.pid)
    each = (after - before) / arguments.connections
    verdict = "PASS" if each <= target else "FAIL"
    what = "idle SMTP connections after EHLO" if idle else f"SMTP connections in the state {arguments.state}"
    print(f"{arguments.connections} {what}, {'with' if arguments.tls else 'without'} TLS: {each:.2f} KiB each "
          f"(PSS {before} KiB before, {after} KiB with them, {closed} KiB after); target {target:g} KiB: {verdict}")
    return 0 if verdict == "PASS" else 1


if __name__ == "__main__":
    sys.exit(main())
