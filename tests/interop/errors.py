"""What goes wrong says so in one line that names the object, with an exit code that is not 0, and changes nothing on disk."""

import hashlib
import os
import pathlib
import socket
import stat
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from server import PASSWORD, Server, program


def picture(directory):
    """Every name under a directory with its kind, mode and content."""
    found = {}
    for path in sorted(pathlib.Path(directory).rglob("*")):
        status = path.lstat()
        # A lock file may be made or touched by an attempt; what it holds is nobody's mail.
        if path.name.lower().endswith("lock") or stat.S_ISSOCK(status.st_mode):
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), content)
    return found


def fails(name, arguments, words, unchanged):
    before = picture(unchanged)
    try:
        done = subprocess.run([program(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{name}: it went on instead of failing") from None
    after = picture(unchanged)
    assert done.returncode not in (0, 101) and done.returncode > 0, f"{name}: exit code {done.returncode}"
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, f"{name}: {len(lines)} lines instead of one:\n{done.stderr}"
    for word in words:
        assert str(word).lower() in lines[0].lower(), f"{name}: {word!s} is not named: {lines[0]}"
    assert "panic" not in lines[0] and "backtrace" not in lines[0], lines[0]
    changed = sorted(set(before.items()) ^ set(after.items()))
    assert not changed, f"{name}: changed on disk: {changed}"
    print(f"ok {name}: {lines[0]}", flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="posthouse-errors-") as base:
        base = pathlib.Path(base)
        server = Server(directory=base / "good", listeners=("smtp", "pop3"))
        instance = server.instance
        config = instance / "posthouse.toml"
        original = config.read_bytes()
        password = server.password_file

        fails("wrong path", ["serve", "--instance", base / "nowhere"], [base / "nowhere"], base)
        (base / "empty").mkdir()
        fails("not an instance", ["serve", "--instance", base / "empty"], [base / "empty"], base)
        fails("wrong path to list", ["queue", "list", "--instance", base / "nowhere"], [base / "nowhere"], base)

        setup = ["setup", "--hostname", "mail.example.test", "--domain", "example.test", "--postmaster-password-file", password]
        fails("set-up over an instance", [*setup, "--instance", instance], [instance], base)
        fails("set-up below a file", [*setup, "--instance", password / "below"], [password], base)
        (base / "short").write_text("short\n")
        fails("password too short", [*setup[:-1], base / "short", "--instance", base / "new"], ["password"], base)
        fails("no password file", [*setup[:-1], base / "missing", "--instance", base / "new"], [base / "missing"], base)
        (base / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n")
        tls = ["--tls-cert", base / "broken.pem", "--tls-key", base / "broken.pem"]
        fails("broken certificate at set-up", [*setup, *tls, "--instance", base / "new"], [base / "broken.pem"], base)
        # To find that out the instance is opened, which leaves its marks; the configuration is as it was.
        fails("unknown domain", ["account", "add", "--instance", instance, "--address", "a@elsewhere.example",
                                 "--password-file", password], ["elsewhere.example"], instance / "tls")

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            config.write_bytes(original.replace(b"127.0.0.1:0", b"127.0.0.1:%d" % port, 1))
            fails("port in use", ["serve", "--instance", instance], ["smtp", port], base)
        config.write_bytes(original)

        config.write_bytes(b"hostname = \n" + original)
        fails("broken configuration", ["serve", "--instance", instance], ["posthouse.toml"], base)
        config.write_bytes(original)

        for pem in instance.rglob("*.pem"):
            if b"CERTIFICATE" in (content := pem.read_bytes()):
                pem.write_bytes(content[: len(content) // 2])
                fails("broken certificate", ["serve", "--instance", instance], [pem.name], base)
                pem.write_bytes(content)
                break
        else:
            raise AssertionError("--tls-self-signed made no certificate")

        form = instance / "FORMAT"
        content = form.read_bytes()
        for name, wrong in (("corrupt FORMAT", b"\0" * len(content)), ("empty FORMAT", b""), ("FORMAT cut short", content[:-3])):
            form.write_bytes(wrong)
            fails(name, ["serve", "--instance", instance], ["FORMAT"], base)
        form.write_bytes(content)

        if os.geteuid() != 0:
            instance.chmod(0o500)
            fails("no permission", ["serve", "--instance", instance], [instance], base)
            instance.chmod(0o700)

        # Everything was put back: it serves. A second process is turned away, and the first goes on.
        server.start()
        fails("second process", ["serve", "--instance", instance], [instance], instance)
        with socket.create_connection(server.address("smtp"), timeout=10) as connection:
            assert connection.recv(100).startswith(b"220")
        listed = server.run("account", "list", "--instance", instance)
        assert "user1@example.test" in listed, listed
        assert PASSWORD not in listed
        server.stop()
        assert "user1@example.test" in server.run("account", "list", "--instance", instance)
        print("ok administration works while it serves and while it does not", flush=True)


if __name__ == "__main__":
    main()
