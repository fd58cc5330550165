"""Runs the `posthouse` program for a test: an instance of its own, every port chosen by the system, gone afterwards.

    with Server() as server:
        smtplib.SMTP(*server.address("smtp"))

The program is the one named by POSTHOUSE (tests/interop.rs and .ci/run set it), else the newest build under
CARGO_TARGET_DIR or target/. With POSTHOUSE_STOP=command it is stopped by `posthouse stop`, for programs that know no
SIGTERM (scripts/windows.py). Nothing here reads the engine's files, except `posthouse.toml` to change a setting.
"""

import atexit
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DOMAIN = "example.test"
PASSWORD = "correct horse battery"
LISTENER = re.compile(r"\b([a-z0-9]+)[=\s:]+(\[[0-9a-fA-F:]+\]|\d+\.\d+\.\d+\.\d+):(\d+)")


def program(name="posthouse"):
    """The path of one of our programs."""
    variable = name.upper().replace("-", "_")
    if os.environ.get(variable):
        return os.environ[variable]
    if name != "posthouse" and os.environ.get("POSTHOUSE"):
        beside = pathlib.Path(os.environ["POSTHOUSE"]).with_name(name)
        if beside.exists():
            return str(beside)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for profile in ("release", "debug") if (path := target / profile / name).exists()]
    if not built:
        sys.exit(f"{name} is not built: cargo build --release --features cli")
    return str(max(built, key=lambda path: path.stat().st_mtime))


def in_ci():
    return os.environ.get("CI", "") not in ("", "0", "false")


def skip(reason):
    """Ends the script: loudly, and with a failure where nothing may be skipped."""
    print(f"SKIP: {reason}", flush=True)
    sys.exit(1 if in_ci() else 0)


class Server:
    def __init__(self, users=1, listeners=("smtp", "submission", "pop3"), directory=None, settings=None, tls=True,
                 wrapper=(), domain=DOMAIN):
        """`listeners`: names, which get a free port, or `name=address`."""
        self.domain = domain
        self.own = directory is None
        self.base = pathlib.Path(directory or tempfile.mkdtemp(prefix="posthouse-test-"))
        self.base.mkdir(parents=True, exist_ok=True)
        self.instance = self.base / "instance"
        self.password_file = self.base / "password"
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)
        self.wrapper = list(wrapper)
        self.process = None
        self.listeners = {}
        self.log = self.base / "server.log"
        try:
            self._make(users, listeners, settings, tls)
        except BaseException:
            self.remove()
            raise

    def _make(self, users, listeners, settings, tls):
        arguments = ["setup", "--instance", self.instance, "--hostname", f"mail.{self.domain}", "--domain", self.domain,
                     "--postmaster-password-file", self.password_file]
        for name in listeners:
            arguments += ["--listen", name if "=" in name else f"{name}=127.0.0.1:0"]
        if tls:
            arguments.append("--tls-self-signed")
        self.run(*arguments)
        self.users = [f"user{n}@{self.domain}" for n in range(1, users + 1)]
        for user in self.users:
            self.add_account(user)
        for key, value in (settings or {}).items():
            self.configure(key, value)

    def add_account(self, user):
        self.run("account", "add", "--instance", self.instance, "--address", user, "--password-file", self.password_file)

    def run(self, *arguments, check=True):
        """One command of the program; its standard output."""
        done = subprocess.run([program(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120)
        if check and done.returncode != 0:
            raise RuntimeError(f"posthouse {' '.join(map(str, arguments))}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout if check else done

    def configure(self, key, value):
        """Sets `section.key` in posthouse.toml, whether it is there, commented out or missing."""
        path = self.instance / "posthouse.toml"
        section, _, name = key.rpartition(".")
        lines = path.read_text().splitlines()
        found, current, last_of_section = None, "", None
        for number, line in enumerate(lines):
            if header := re.match(r"\s*\[(\[?[^\[\]]+)\]?\]\s*(#.*)?$", line):
                current = header.group(1).strip()
            if current == section:
                last_of_section = number
                if re.match(rf"\s*{re.escape(name)}\s*=", line) or (
                    found is None and re.match(rf"\s*#\s*{re.escape(name)}\s*=", line)
                ):
                    found = number
        if found is not None:
            lines[found] = f"{name} = {value}"
        elif last_of_section is not None:
            lines.insert(last_of_section + 1, f"{name} = {value}")
        elif section:
            lines += [f"[{section}]", f"{name} = {value}"]
        else:
            lines.insert(0, f"{name} = {value}")
        path.write_text("\n".join(lines) + "\n")

    def add_route(self, **keys):
        """A `[[route]]` table with these keys, all texts."""
        lines = [f'{key} = "{value}"' for key, value in keys.items()]
        with open(self.instance / "posthouse.toml", "a") as file:
            file.write("\n[[route]]\n" + "\n".join(lines) + "\n")

    def start(self, timeout=30):
        """Starts to serve; returns when the program says that it does."""
        self.listeners = {}
        # The log goes to a file: a reader of it would take part in what is measured.
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, program(), "serve", "--instance", str(self.instance)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        atexit.register(self._kill, self.process)
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self.process, ready), daemon=True).start()
        deadline = time.monotonic() + timeout
        while not ready.wait(0.02):
            if self.process.poll() is not None:
                raise RuntimeError(f"serve ended with {self.process.returncode}: {self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"serve was not ready after {timeout} s: {self.tail()}")
        return self

    def _read(self, process, ready):
        """Takes the addresses from the `ready` line."""
        for line in process.stdout:
            if line.startswith("ready"):
                for name, host, port in LISTENER.findall(line):
                    self.listeners[name] = (host.strip("[]"), int(port))
                ready.set()

    def tail(self, lines=10):
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def pid(self):
        return self.process.pid

    def address(self, name):
        return self.listeners[name]

    def stop(self, timeout=60):
        """SIGTERM, or the command: drains and stops. Anything but exit code 0 is an error."""
        if self.process is None:
            return
        if os.environ.get("POSTHOUSE_STOP") == "command":
            self.run("stop", "--instance", self.instance)
        else:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"serve did not stop within {timeout} s") from None
        self.process = None
        if code != 0:
            raise RuntimeError(f"serve ended with {code} when it was stopped: {self.tail()}")

    def kill(self):
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self._kill(self.process)
            self.process = None

    @staticmethod
    def _kill(process):
        if process.poll() is None:
            process.kill()
            process.wait()

    def remove(self):
        if self.own:
            shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, traceback):
        try:
            if kind is None:
                self.stop()
            else:
                self.kill()
                print(f"last lines of the server:\n{self.tail(20)}", file=sys.stderr)
        finally:
            self.remove()


def free_port():
    """A port that is free now, for programs that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
