"""A throwaway Postfix: its own configuration, queue and data directory, a loopback port.

With `hold` it measures acceptance and nothing else: every message is put on hold (access action HOLD), so the queue
manager never looks at it, no delivery competes for the machine, and the message stays as durable as Postfix makes
it: written, fsynced and renamed into the queue before 250. Address rewriting, milters, chroot, lookups of names and
the rate limits of anvil are off; the number of server processes is above the number of connections. All of this
is in Postfix's favour.

Without, mail for its domains goes into a Maildir, the rest to a relay host. Postfix's master must be started by root.
"""

import os
import pathlib
import shutil
import signal

from . import jail, mail

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
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {base}
virtual_mailbox_maps = static:maildir/
virtual_uid_maps = static:{mail_user}
virtual_gid_maps = static:{mail_group}
virtual_mailbox_limit = 0
relayhost = {relay}
relay_transport = {relay_transport}
smtp_tls_security_level = {relay_security}
smtp_sasl_auth_enable = {relay_auth}
smtp_sasl_password_maps = {relay_passwords}
smtp_sasl_security_options = noanonymous
smtp_destination_concurrency_limit = 20
lmtp_destination_concurrency_limit = 20
lmtp_tls_security_level = none
smtp_connection_cache_on_demand = yes
minimal_backoff_time = 2s
maximal_backoff_time = 5s
queue_run_delay = 2s
{server_tls}
alias_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_relay_restrictions = {permitted}, reject
smtpd_recipient_restrictions = {restrictions}
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
lmtp unix - - n - - lmtp
virtual unix - n n - - virtual
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000 1 tlsmgr
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
    return jail.reason_to_skip()


class Postfix:
    name = "Postfix"
    durable = True

    def __init__(self, directory, port, processes=200, domains=("postfix.test",), relay=None, hold=False, certificate=None,
                 relay_tls=False, relay_login=None, relay_lmtp=None, auth_socket=None, needs_tls=False, needs_login=False, refusals=None):
        """`relay`: (host, port). `hold`: mail is kept in the queue, for measuring acceptance alone. `certificate`: (PEM, key), with
        which STARTTLS is offered. `relay_login`: (user, password). `relay_lmtp`: where mail for example.test goes by LMTP,
        `inet:[HOST]:PORT` or `unix:PATH`. `auth_socket`: of a Dovecot, which verifies AUTH. `needs_tls`, `needs_login`: no mail
        is taken without. `refusals`: recipient -> reply to it."""
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
        self.maildir = self.base / "maildir"
        self.maildir.mkdir(mode=0o700)
        os.chown(self.maildir, jail.user_id("vmail"), jail.group_id("vmail"))
        where = f"[{relay[0]}]:{relay[1]}" if relay else ""
        server_tls, passwords = "smtpd_tls_security_level = none\n", ""
        if certificate:
            server_tls = f"smtpd_tls_security_level = {'encrypt' if needs_tls else 'may'}\nsmtpd_tls_cert_file = {certificate[0]}\nsmtpd_tls_key_file = {certificate[1]}\n"
        if auth_socket:
            server_tls += f"smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {auth_socket}\n"
        if relay_login:
            passwords = f"inline:{{ {{ {where} = {relay_login[0]}:{relay_login[1]} }} }}"
        permitted = "permit_sasl_authenticated" if needs_login else "permit_mynetworks"
        answers = ", ".join(f"{{ {address} = {reply} }}" for address, reply in (refusals or {}).items())
        refused = f"check_recipient_access inline:{{ {answers} }}, " if answers else ""
        (config / "main.cf").write_text(MAIN.format(
            queue=self.queue, data=data, daemons=daemons, log=log, prefix=self.base, processes=processes, base=self.base,
            domains="" if hold else ", ".join(domains), mail_user=jail.user_id("vmail"), mail_group=jail.group_id("vmail"),
            relay=where, relay_security="encrypt" if relay_tls else "none", relay_auth="yes" if relay_login else "no",
            relay_transport=f"lmtp:{relay_lmtp}" if relay_lmtp else "relay", permitted=permitted,
            relay_passwords=passwords, server_tls=server_tls,
            restrictions=("check_client_access static:HOLD, " if hold else "") + refused + permitted + ", reject"))
        (config / "master.cf").write_text(MASTER.format(port=port, processes=processes))
        self.command = jail.command(self.base, [daemons / "master", "-c", config, "-d"])
        self.log = log
        self.process = None

    def start(self):
        return mail.launch(self)

    def trouble(self):
        return mail.tails(self.log)

    def messages(self):
        return mail.read_maildir(self.maildir)

    def count(self):
        return mail.count_maildir(self.maildir)

    @property
    def pid(self):
        return self.process.pid

    def clean(self):
        """Forgets what was accepted, outside of any measurement."""
        mail.empty(self.queue / "hold")
        mail.empty(self.maildir)

    def stop(self):
        mail.end(self.process, signal.SIGTERM)
        self.process = None
