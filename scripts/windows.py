#!/usr/bin/env python3
"""Builds the library and the program for 64-bit Windows with Debian's compilers, and runs them under Wine.

    scripts/windows.py [--build-only] [--rounds N]

What it shows, in this order:
- the DLL exports exactly the functions of include/posthouse.h; a posthouse.def for other linkers is made from that list;
- the unit tests (the store's among them) pass under Wine;
- `posthouse.exe demo --once` serves and reads back real mail;
- nothing in an instance is everybody's to read (Wine shows access lists as modes);
- examples/mail_server.c, bound to the DLL by MinGW, takes messages over SMTP and by its own submission and gives them
  back over POP3 octet by octet, to Python on this side (Wine's programs listen on the machine's own loopback);
- a host may unload the DLL and load it again: it stays, since a second ws2_32 could not listen;
- before every 250 that acknowledges a message the process called fsync, which is what Wine makes of FlushFileBuffers (strace);
- killed with SIGKILL under load and started again, it has every acknowledged message, whole and once (scripts/kill9.py).

What it does not show: Wine is not Windows. It proves nothing about NTFS, a loss of power, virus scanners, speed.

Needs `posthouse-load` of this system (cargo build --release --features cli), and strace. Everything is kept below
target/windows (CARGO_TARGET_DIR is respected): the standard library for each compiler, the build, the Wine prefix. Missing
packages are installed when that is possible (root, apt-get). What cannot be had is skipped, and said; with CI=true it
fails instead. The exit code is 0 when nothing failed.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
TRIPLE = "x86_64-pc-windows-gnu"
WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "windows"
BUILD = WORK / "build"
DEBUG = BUILD / TRIPLE / "debug"
RUN = WORK / "run"
MINGW = "x86_64-w64-mingw32-"
PACKAGES = ("rustc-web", "cargo-web", "rust-web-src", "gcc-mingw-w64-x86-64-posix", "wine", "wine64")

# Tests that cannot run under Wine, and why.
NOT_IN_WINE = {}


class Failure(Exception):
    """Something that should hold does not, or a command failed; the text says what."""


def say(text):
    print(text, flush=True)


def run(command, name, timeout, env=None, **options):
    """A command whose output goes to a file (Wine's services would keep a pipe open); the output."""
    log = RUN / f"{name}.log"
    with open(log, "wb") as output:
        try:
            done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                  timeout=timeout, env=env, **options)
        except subprocess.TimeoutExpired:
            raise Failure(f"{name}: not done after {timeout} s{tail(log)}") from None
    if done.returncode != 0:
        raise Failure(f"{name}: exit code {done.returncode}{tail(log)}")
    return log.read_text(errors="replace")


def tail(log, lines=25):
    return "".join(f"\n    {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])


# --- What is needed -------------------------------------------------------------------------------------------------


def missing():
    """Packages that are needed and not there."""
    found = {
        "rustc-web": os.path.exists("/usr/bin/rustc"),
        "cargo-web": os.path.exists("/usr/bin/cargo"),
        "rust-web-src": False,
        "gcc-mingw-w64-x86-64-posix": shutil.which(f"{MINGW}gcc"),
        "wine": shutil.which("wine"),
        "wine64": shutil.which("wine") and shutil.which("wineserver"),
    }
    if found["rustc-web"]:
        sysroot = subprocess.run(["/usr/bin/rustc", "--print", "sysroot"], capture_output=True, text=True).stdout.strip()
        found["rust-web-src"] = os.path.exists(f"{sysroot}/lib/rustlib/src/rust/library/sysroot/Cargo.toml")
    return [package for package in PACKAGES if not found[package]]


def install(packages):
    """Installs packages without starting their services."""
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for command in (["apt-get", "update", "-qq"],
                        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]):
            try:
                run(command, "apt", 900, env)
            except Failure as failure:
                say(str(failure))
    finally:
        if made:
            policy.unlink()


def have_packages():
    lacking = missing()
    if lacking and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {' '.join(lacking)}")
        install(lacking)
        lacking = missing()
    if not lacking:
        return True
    say(f"SKIP: nothing of Windows is built or tested: {' '.join(lacking)} cannot be installed "
        f"(apt-get and root are needed: apt-get install --no-install-recommends {' '.join(PACKAGES)})")
    return False


# --- Build ----------------------------------------------------------------------------------------------------------


def cargo(*arguments, name):
    """Debian's cargo and compiler, with the standard library that was made for Windows; what cargo said."""
    sysroot = run([ROOT / "scripts/windows/std.sh", TRIPLE, WORK], "std", 3600).split()[-1]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("RUST", "CARGO_"))}
    # The registry that is there already is used.
    env.update({key: os.environ[key] for key in ("CARGO_HOME",) if key in os.environ})
    env.update(PATH="/usr/bin:" + os.environ["PATH"], RUSTC="/usr/bin/rustc", CARGO_TERM_COLOR="never",
               CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS=f"--sysroot {sysroot}")
    return run(["/usr/bin/cargo", "--config", ROOT / "scripts/windows/cargo.toml", *arguments, "--locked", "--target", TRIPLE,
                "--target-dir", BUILD, "--features", "cli"], name, 7200, env, cwd=ROOT)


def build():
    """Everything for Windows; the unit tests' program."""
    # With an example the dependencies are those of the tests, feature by feature, and nothing is compiled twice.
    cargo("build", "--lib", "--bin", "posthouse", "--example", "smtp_sink", name="build")
    told = cargo("test", "--lib", "--no-run", "--message-format=json-render-diagnostics", name="build-tests")
    tests = None
    for line in told.splitlines():
        if line.startswith("{"):
            message = json.loads(line)
            if message.get("executable") and message["target"]["name"] == "posthouse" and message["profile"]["test"]:
                tests = pathlib.Path(message["executable"])
    if tests is None:
        raise Failure("build-tests: cargo names no program of the unit tests")
    for name in ("posthouse.dll", "posthouse.exe"):
        shutil.copy2(DEBUG / name, RUN / name)
    c99 = [f"{MINGW}gcc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "include", "-o"]
    run([*c99, RUN / "mail_server.exe", ROOT / "examples/mail_server.c", DEBUG / "libposthouse.dll.a"], "gcc", 120)
    # This one finds the DLL at run time.
    run([*c99, RUN / "unload.exe", ROOT / "scripts/windows/unload.c"], "gcc-unload", 120)
    return tests


def exports():
    """Compares the DLL's table of exports with the header, and makes the .def file."""
    dump = run([f"{MINGW}objdump", "-p", RUN / "posthouse.dll"], "exports", 300)
    table = dump.partition("[Ordinal/Name Pointer] Table")[2].partition("\n\n")[0]
    exported = set(re.findall(r"^\s*\[\s*\d+\].*?\s(\w+)$", table, re.MULTILINE))
    header = (ROOT / "include/posthouse.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    declared = set(re.findall(r"^[a-z].*?\b(ph_\w+)\(", header, re.MULTILINE))
    declared -= set(re.findall(r"\(\*(ph_\w+)\)", header))
    if exported != declared:
        raise Failure(f"posthouse.dll and the header differ in {sorted(exported ^ declared)}")
    lines = ["LIBRARY posthouse.dll", "EXPORTS", *(f"    {name}" for name in sorted(exported))]
    (DEBUG / "posthouse.def").write_text("\n".join(lines) + "\n")
    imports = sorted({name.lower() for name in re.findall(r"DLL Name: (\S+)", dump)})
    foreign = [name for name in imports if name.startswith(("libgcc", "libwinpthread", "libstdc", "libssp"))]
    if foreign:
        raise Failure(f"posthouse.dll needs {foreign}, which no Windows has")
    say(f"posthouse.dll exports the {len(exported)} functions of the header, and needs only {', '.join(imports)}")


# --- Wine -----------------------------------------------------------------------------------------------------------


def wine_environment():
    env = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY", "WINEARCH")}
    env.update(WINEPREFIX=str(WORK / "prefix"), WINEDEBUG="-all", WINEDLLOVERRIDES="mscoree,mshtml=", RUST_BACKTRACE="0")
    return env


def prefix(env):
    """The Wine prefix, once for a version of Wine, and Wine's own services, whose output must not be ours."""
    mark = pathlib.Path(env["WINEPREFIX"]) / "complete"
    version = subprocess.run(["wine", "--version"], env=env, capture_output=True, text=True, timeout=60).stdout.strip()
    if not mark.exists() or mark.read_text() != version:
        shutil.rmtree(mark.parent, ignore_errors=True)
        mark.parent.mkdir(parents=True)
        run(["wineboot", "-i"], "wineboot", 600, env)
        shim = RUN / "bcryptprimitives.dll"
        run([f"{MINGW}gcc", "-O2", "-shared", "-s", "-o", shim, ROOT / "scripts/windows/bcryptprimitives.c", "-ladvapi32"],
            "shim", 120)
        there = mark.parent / "drive_c/windows/system32/bcryptprimitives.dll"
        if not there.exists():
            shutil.copy2(shim, there)
        # The oldest that is supported.
        run(["wine", "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f"], "registry", 120, env)
        run(["wineserver", "-k", "-w"], "wineserver-end", 60, env)
        mark.write_text(version)
    # Stays for ten minutes after its last program, so that no later one starts services that keep its pipes.
    run(["wineserver", "-p600"], "wineserver", 60, env)
    told = run(["wine", "cmd", "/c", "ver"], "wine", 120, env)
    return f"{version}, as {told.strip()}"


def wrapper(name):
    """A program of this system that runs one of Windows; the process stays the same, so it can be killed by its number."""
    path = RUN / name
    path.write_text(f'#!/bin/sh\nexec wine "{RUN / name}.exe" "$@"\n')
    path.chmod(0o755)
    return path


def unit_tests(tests, env):
    skipped = [word for name in NOT_IN_WINE for word in ("--skip", name)]
    for name, reason in NOT_IN_WINE.items():
        say(f"not run under Wine: {name}: {reason}")
    told = run(["wine", tests, *skipped], "unit-tests", 1800, env, cwd=ROOT)
    result = re.search(r"^test result: ok\. (\d+) passed; 0 failed; (\d+) ignored", told, re.MULTILINE)
    # A program that ends well without having tested is no success.
    if result is None or int(result.group(1)) < 100 or "store::tests::" not in told:
        raise Failure(f"unit-tests: no result of them{tail(RUN / 'unit-tests.log')}")
    say(f"unit tests: {result.group(1)} passed, {result.group(2)} ignored, {len(NOT_IN_WINE)} not run")


def demo(env):
    told = run(["wine", RUN / "posthouse.exe", "demo", "--once"], "demo", 300, env, cwd=RUN)
    say(f"posthouse.exe demo: {told.strip().splitlines()[-1].strip()}")


def for_owner_only(directory):
    """Nothing in an instance may be everybody's to read. Wine shows what Administrators may as the group's bits."""
    paths = [directory, *directory.rglob("*")]
    wide = [path for path in paths if path.lstat().st_mode & 0o007]
    if wide:
        raise Failure(f"{wide[0]} has mode {wide[0].stat().st_mode & 0o777:o}")
    say(f"none of the instance's {len(paths)} files and directories is everybody's to read")


def conversation(env):
    """The C example, driven from this side."""
    program = wrapper("mail_server")
    told = run([sys.executable, "-B", ROOT / "tests/interop/roundtrip.py", "--command", program], "roundtrip", 600, env)
    say(f"mail_server.exe with posthouse.dll: {told.splitlines()[-1]}")


def unloading(env):
    """A host that unloads the DLL, and does not unload it, because it is pinned."""
    with tempfile.TemporaryDirectory(prefix="posthouse-test-") as directory:
        told = run(["wine", RUN / "unload.exe", f"{directory}/instance"], "unload", 120, env, cwd=RUN)
    say(f"unload.exe: {told.strip().splitlines()[-1]}")


def syncs(messages=20):
    """Follows one server's system calls: an fsync before each 250 after data. Also looks at its instance's access."""
    from server import DOMAIN, Server
    trace = RUN / "syncs.trace"
    calls = "fsync,fdatasync,sendmsg,sendto,write,writev"
    server = Server(listeners=("smtp",), tls=False, wrapper=("strace", "-f", "-qq", "-s", "80", "-e", f"trace={calls}", "-o", trace))
    try:
        for_owner_only(server.instance)
        server.start(timeout=120)
        with smtplib.SMTP(*server.address("smtp"), timeout=60) as client:
            for number in range(messages):
                client.sendmail("a@sender.example", server.users, f"Subject: {number}\r\n\r\ntext\r\n")
        server.stop()
    finally:
        server.kill()
        server.remove()
    acknowledged, since, waiting = 0, 0, False
    for line in trace.read_text(errors="replace").splitlines():
        if re.search(r"\b(fsync|fdatasync)(\(| resumed).*= 0$", line):
            since += 1
        elif '"354 ' in line:
            since, waiting = 0, True
        elif waiting and '"250 ' in line:
            if since == 0:
                raise Failure(f"a 250 without an fsync before it: {line}")
            acknowledged, waiting = acknowledged + 1, False
    if acknowledged != messages:
        raise Failure(f"{messages} messages were sent, {acknowledged} replies were seen in {trace}")
    say(f"each of {messages} messages was acknowledged after an fsync that came after its 354")


def kill9(env, rounds):
    """The load comes from this side; it needs `cargo build --release --features cli`, as the other scripts do."""
    from server import program
    env = dict(env, POSTHOUSE_LOAD=program("posthouse-load"))
    told = run([sys.executable, "-B", ROOT / "scripts/kill9.py", "--rounds", str(rounds)], "kill9", 120 + 120 * rounds, env)
    say(f"killed under Wine: {told.splitlines()[-1]}")


def under_wine(tests, rounds):
    env = wine_environment()
    # tests/interop/server.py runs these, and ends the server by command: Windows has no SIGTERM.
    env.update(POSTHOUSE=str(wrapper("posthouse")), POSTHOUSE_STOP="command")
    os.environ.update(env)
    try:
        say(f"{prefix(env)}; it is no proof for NTFS or a loss of power")
        since = time.monotonic()
        unit_tests(tests, env)
        demo(env)
        conversation(env)
        unloading(env)
        if shutil.which("strace"):
            syncs()
        else:
            skip_part("strace is not installed: that a sync comes before each reply was not followed")
        kill9(env, rounds)
        say(f"under Wine {time.monotonic() - since:.0f} s")
    finally:
        subprocess.run(["wineserver", "-k"], env=env, stdin=subprocess.DEVNULL, timeout=60, check=False)


def skip_part(text):
    say(f"SKIP: {text}")
    if os.environ.get("CI") == "true":
        raise Failure(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build-only", action="store_true", help="the DLL, the program and the .def file, nothing under Wine")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of kill -9")
    arguments = parser.parse_args()
    RUN.mkdir(parents=True, exist_ok=True)
    if not have_packages():
        return 1 if os.environ.get("CI") == "true" else 0
    try:
        since = time.monotonic()
        tests = build()
        exports()
        used = os.times()
        say(f"built for {TRIPLE} in {time.monotonic() - since:.0f} s, {used.children_user + used.children_system:.0f} s of CPU: "
            f"{DEBUG / 'posthouse.dll'}")
        if not arguments.build_only:
            under_wine(tests, arguments.rounds)
    except Failure as failure:
        say(f"FAIL: windows: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
