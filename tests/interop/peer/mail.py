"""What all peers need: waiting until they speak, ending them, reading what they stored, certificates."""

import atexit
import os
import pathlib
import signal
import socket
import subprocess
import time


def launch(peer):
    """Starts `peer.command`, whose words on standard error go to a file in its directory, and waits until it speaks."""
    with open(peer.base / "stderr", "ab") as words:
        peer.process = subprocess.Popen(peer.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words,
                                        start_new_session=True)
    atexit.register(end, peer.process)
    wait_for_banner(peer)
    return peer


def wait_for_banner(peer, seconds=15):
    """Returns when the peer says 220; raises with the end of its log when it ends or does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if peer.process.poll() is not None:
            break
        try:
            with socket.create_connection(peer.address, timeout=5) as connection:
                if connection.recv(100).startswith(b"220"):
                    connection.sendall(b"QUIT\r\n")
                    connection.recv(100)
                    return
        except OSError:
            pass
        time.sleep(0.05)
    trouble = peer.trouble()
    peer.stop()
    raise RuntimeError(f"{peer.name} did not start on port {peer.address[1]}:\n{trouble}")


def tails(*paths, lines=10):
    """The last lines of these files."""
    text = ""
    for path in paths:
        if path.exists():
            text += f"{path}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n"
    return text


def end(process, number=signal.SIGTERM, seconds=20):
    """Ends a peer's main process, which ends its children; then whatever of its session is left."""
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def read_maildir(directory):
    """Every message in `new` and `cur`, as stored."""
    found = []
    for part in ("new", "cur"):
        place = pathlib.Path(directory) / part
        if place.is_dir():
            found += [entry.read_bytes() for entry in sorted(place.iterdir()) if entry.is_file()]
    return found


def count_maildir(directory):
    """How many messages `read_maildir` would find."""
    places = [pathlib.Path(directory) / part for part in ("new", "cur")]
    return sum(len(os.listdir(place)) for place in places if place.is_dir())


def empty(directory):
    """Removes all files below a directory."""
    for place, _, names in os.walk(directory):
        for name in names:
            # A server that still runs may be faster.
            pathlib.Path(place, name).unlink(missing_ok=True)


def certificate(directory, name="peer.example.test"):
    """A self-signed certificate, which is no authority for others, and its key (RSA: OpenSMTPD knows no other): two paths of PEM files."""
    directory = pathlib.Path(directory)
    pem, key = directory / "certificate.pem", directory / "key.pem"
    if not pem.exists():
        config = directory / "certificate.cnf"
        config.write_text(f"[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = more\n[name]\nCN = {name}\n"
                          f"[more]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:{name}, IP:127.0.0.1\n")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-config", config,
                        "-keyout", key, "-out", pem],
                       check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return pem, key
