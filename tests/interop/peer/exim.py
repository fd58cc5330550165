"""A throwaway Exim: SMTP on a loopback port, mail for the local domains into a Maildir, the rest to a relay host.

Taken out of its Debian package, because it excludes Postfix there.
"""

import os
import pathlib
import signal

from . import jail, mail

PACKAGES = ("exim4-daemon-light", "exim4-base")

CONFIG = """\
exim_path = {binary}
primary_hostname = exim.example.test
spool_directory = {base}/spool
log_file_path = {base}/log/%slog
pid_file_path = {base}/exim.pid
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
disable_ipv6
never_users =
deliver_drop_privilege = true
domainlist local_domains = {domains}
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept_all
smtp_accept_max = {processes}
smtp_accept_max_per_connection = 0
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1024
smtp_reserve_hosts =
host_lookup =
rfc1413_query_timeout = 0s
message_size_limit = 200M
helo_allow_chars = _
chunking_advertise_hosts = *
pipelining_advertise_hosts = *
accept_8bitmime = true
dsn_advertise_hosts = *
queue_run_max = 20
deliver_queue_load_max = 1000
queue_only_load = 1000
bounce_message_file =
keep_environment =
{globals}

begin acl
check_rcpt:
{conditions}  accept
accept_all:
  accept{control}

begin routers
relay:
  driver = manualroute
  domains = ! +local_domains
  transport = relay
  route_list = * {relay}
  self = send
  no_more
local:
  driver = accept
  domains = +local_domains
  transport = maildir

begin transports
relay:
  driver = smtp
  port = {relay_port}
  allow_localhost
  max_rcpt = 100
  connection_max_messages = 1000
{relay_options}
maildir:
  driver = appendfile
  directory = {base}/maildir
  create_directory
  maildir_format
  mode = 0600

begin retry
* * F,1h,2s

begin authenticators
{authenticators}
"""


def reason_to_skip():
    return jail.reason_to_skip() or (None if jail.unpack(*PACKAGES) else "Exim's Debian package cannot be had")


class Exim:
    name = "Exim"
    durable = True

    def __init__(self, directory, port, domains=("exim.test",), relay=None, processes=200, hold=False, certificate=None,
                 relay_tls=False, relay_login=None, relay_lmtp=False, needs_tls=False, needs_login=False):
        """`relay`: (host, port). `hold`: mail is kept in the queue, for measuring acceptance alone. `certificate`: (PEM, key),
        with which STARTTLS and AUTH PLAIN for user/secret are offered. `relay_login`: (user, password). `relay_lmtp`: the relay host speaks LMTP. `needs_tls`, `needs_login`: no
        recipient is taken without."""
        self.base = pathlib.Path(directory)
        self.port = port
        self.address = ("127.0.0.1", port)
        uid, gid = jail.user_id("Debian-exim"), jail.group_id("Debian-exim")
        self.base.mkdir(mode=0o755)
        for name in ("spool", "log"):
            (self.base / name).mkdir(mode=0o750)
            os.chown(self.base / name, uid, gid)
        self.maildir = self.base / "maildir"
        self.maildir.mkdir(mode=0o700)
        os.chown(self.maildir, uid, gid)
        globals_, authenticators, options = "", "", ""
        if certificate:
            for source, name in zip(certificate, ("certificate.pem", "key.pem")):
                target = self.base / name
                target.write_bytes(pathlib.Path(source).read_bytes())
                target.chmod(0o640)
                os.chown(target, 0, gid)
            globals_ = (f"tls_advertise_hosts = *\ntls_certificate = {self.base}/certificate.pem\ntls_privatekey = {self.base}/key.pem\n"
                        "auth_advertise_hosts = *\n")
            authenticators += ("plain_server:\n  driver = plaintext\n  public_name = PLAIN\n  server_prompts = :\n"
                               "  server_condition = ${if and{{eq{$auth2}{user}}{eq{$auth3}{secret}}}}\n  server_set_id = $auth2\n")
        else:
            globals_ = "tls_advertise_hosts =\n"
        if relay_tls:
            options += "  hosts_require_tls = *\n  tls_verify_certificates =\n  tls_try_verify_hosts =\n"
        else:
            options += "  hosts_avoid_tls = *\n"
        if relay_lmtp:
            options += "  protocol = lmtp\n"
        if relay_login:
            options += "  hosts_require_auth = *\n"
            authenticators += ("plain_client:\n  driver = plaintext\n  public_name = PLAIN\n"
                               f"  client_send = ^{relay_login[0]}^{relay_login[1]}\n")
        host, relay_port = relay or ("127.0.0.1", 1)
        binary = jail.unpack(*PACKAGES) / "usr/sbin/exim4"
        config = self.base / "exim.conf"
        config.write_text(CONFIG.format(
            base=self.base, binary=binary, port=port, domains=" : ".join(domains), processes=processes, globals=globals_,
            conditions="  require encrypted = *\n" * needs_tls + "  require authenticated = *\n" * needs_login,
            control="\n    control = queue_only" if hold else "", relay=host, relay_port=relay_port, relay_options=options,
            authenticators=authenticators))
        config.chmod(0o644)
        self.config = config
        # Queue runners beside the daemon, for what could not be sent at once.
        self.command = jail.command(self.base, [binary, "-C", config, "-bdf", *([] if hold else ["-q2s"])])
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        return mail.launch(self)

    def trouble(self):
        return mail.tails(self.base / "stderr", *sorted((self.base / "log").glob("*log")))

    def messages(self):
        return mail.read_maildir(self.maildir)

    def count(self):
        return mail.count_maildir(self.maildir)

    def clean(self):
        mail.empty(self.maildir / "new")
        mail.empty(self.base / "spool" / "input")

    def stop(self):
        mail.end(self.process, signal.SIGTERM)
        self.process = None
