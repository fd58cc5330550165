"""Runs a program with its own view of a few paths: directories of the test over the built-in ones, users that this machine
does not have.

Debian's mail servers exclude one another as packages. What is not installed is taken out of its package (`unpack`) into the
build directory and runs from there, in a mount namespace in which `/etc/passwd` and `/etc/group` know its users and its
spool directory is the test's.
"""

import grp
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server import ROOT

# Users that peers have built in, when this machine has not got them: name -> number.
USERS = {"Debian-exim": 60901, "opensmtpd": 60902, "opensmtpq": 60903, "vmail": 60904}


def unpack(*packages):
    """The directory with the files of these Debian packages; `None` when they cannot be had."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers" / packages[0]
    if (target / "complete").exists():
        return target
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return None
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as download:
        os.chmod(download, 0o755)
        done = subprocess.run(["apt-get", "download", "-qq", *packages], cwd=download, stdin=subprocess.DEVNULL, capture_output=True)
        files = sorted(pathlib.Path(download).glob("*.deb"))
        if done.returncode != 0 or len(files) != len(packages):
            return None
        for file in files:
            subprocess.run(["dpkg", "-x", file, target], check=True)
    (target / "complete").touch()
    return target


def user_id(name):
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return USERS[name]


def group_id(name):
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return USERS[name]


def _lists(directory):
    """Copies of passwd and group with the peers' users, which have no password and no shell."""
    passwd = pathlib.Path("/etc/passwd").read_text()
    group = pathlib.Path("/etc/group").read_text()
    for name, number in USERS.items():
        if f"{name}:" not in passwd:
            passwd += f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"
        if f"{name}:" not in group:
            group += f"{name}:x:{number}:\n"
    directory.mkdir(exist_ok=True)
    (directory / "passwd").write_text(passwd)
    (directory / "group").write_text(group)
    return directory


def command(base, arguments, binds=None):
    """The command line that runs `arguments` with `binds` (a path that exists -> what is seen there) and the peers' users."""
    lists = _lists(pathlib.Path(base) / "lists")
    binds = {"/etc/passwd": lists / "passwd", "/etc/group": lists / "group", **(binds or {})}
    script = ""
    for place, source in binds.items():
        script += f"mount --bind '{source}' '{place}' && "
    script += 'exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "jail", *map(str, arguments)]


def reason_to_skip():
    if os.geteuid() != 0:
        return "root is needed"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        return "no mount namespaces here"
    return None
