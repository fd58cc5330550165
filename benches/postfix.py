"""A throwaway Postfix for comparisons: its own configuration, queue and data directory, a loopback port.

What it measures is acceptance and nothing else: every message is put on hold (access action HOLD), so the queue
manager never looks at it, no delivery competes for the machine, and the message stays as durable as Postfix makes
it: written, fsynced and renamed into the queue before 250. Address rewriting, milters, chroot, lookups of names and
the rate limits of anvil are off; the number of server processes is above the number of connections. All of this
is in Postfix's favour.

Postfix's master must be started by root.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

QUEUES = "active bounce corrupt defer deferred flush hold incoming maildrop private public saved trace pid".split()

MAIN = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example.test
mydomain = example.test
mydestination =
local_recipient_maps =
local_transport = error:local delivery is off
relay_domains = example.test
alias_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_client_access static:HOLD, permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_delay_reject = yes
default_process_limit = {processes}
message_size_limit = 104857600
in_flow_delay = 0
maillog_file = {log}
maillog_file_prefixes = {prefix}
disable_dns_lookups = yes
"""

MASTER = """\
127.0.0.1:{port} inet n - n - {processes} smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
smtp unix - - n - - smtp
relay unix - - n - - smtp
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def find_master():
    for directory in ("/usr/lib/postfix/sbin", "/usr/libexec/postfix", "/usr/lib/postfix"):
        if os.access(f"{directory}/master", os.X_OK):
            return pathlib.Path(directory)
    return None


def reason_to_skip():
    """One line when this machine cannot run it, or None."""
    if find_master() is None:
        return "Postfix is not installed"
    if os.geteuid() != 0:
        return "Postfix's master must be started by root"
    return None


class Postfix:
    name = "Postfix"
    durable = True

    def __init__(self, directory, port, processes):
        self.base = pathlib.Path(directory)
        self.port = port
        self.address = ("127.0.0.1", port)
        self.queue = self.base / "queue"
        config = self.base / "config"
        data = self.base / "data"
        daemons = find_master()
        # Postfix's own user passes through here, and refuses directories that others may write to.
        self.base.mkdir(mode=0o755)
        for path in (config, self.queue, data):
            path.mkdir(mode=0o755)
        shutil.chown(data, "postfix")
        for name in QUEUES:
            path = self.queue / name
            path.mkdir()
            path.chmod(0o755 if name == "pid" else 0o730 if name == "maildrop" else 0o710 if name == "public" else 0o700)
            if name == "pid":
                continue
            shutil.chown(path, "postfix", "postdrop" if name in ("maildrop", "public") else None)
        log = self.base / "mail.log"
        log.touch()
        (config / "main.cf").write_text(
            MAIN.format(queue=self.queue, data=data, daemons=daemons, log=log, prefix=self.base, processes=processes)
        )
        (config / "master.cf").write_text(MASTER.format(port=port, processes=processes))
        self.command = [str(daemons / "master"), "-c", str(config), "-d"]
        self.log = log
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(200):
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(self.address, timeout=5) as connection:
                    if connection.recv(100).startswith(b"220"):
                        connection.sendall(b"QUIT\r\n")
                        return self
            except OSError:
                pass
            time.sleep(0.05)
        tail = "".join(self.log.read_text().splitlines(keepends=True)[-10:])
        self.stop()
        raise RuntimeError(f"Postfix did not start on port {self.port}:\n{tail}")

    @property
    def pid(self):
        return self.process.pid

    def clean(self):
        """Forgets what was accepted, outside of any measurement."""
        hold = self.queue / "hold"
        for directory, _, names in os.walk(hold):
            for name in names:
                os.unlink(os.path.join(directory, name))

    def stop(self):
        if self.process is None:
            return
        # The master ends its children; it gets the signal alone.
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
