#!/usr/bin/env python3
"""Counts the instructions that the SMTP server machine needs for one message of 1 KiB, and compares with the figures kept here.

    scripts/machine_instructions.py [--bless] [PROGRAM]

Builds benches/smtp_instructions.rs in release mode (or takes PROGRAM), runs it under callgrind with two counts of messages, and
divides the difference: start-up counts for nothing. Ends with 1 when a figure is more than 5 percent above the kept one in
benches/smtp_instructions.txt; --bless writes the new ones there. Needs valgrind; the figures belong to x86-64 and to the compiler of
rust-toolchain.toml.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / "benches/smtp_instructions.txt"
KINDS = ("data", "bdat", "dsn")
FEW, MANY = 1000, 3000
WORSE = 1.05


def build():
    """The program's path."""
    command = ["cargo", "bench", "--locked", "--no-run", "--bench", "smtp_instructions", "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "smtp_instructions":
            return message["executable"]
    sys.exit("cargo told no program")


def instructions(program, kind, count):
    """All instructions of one run."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, kind, str(count)]
    done = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bless", action="store_true", help="keep the figures of this run")
    parser.add_argument("program", nargs="?", help="a program that is built already")
    args = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    program = args.program or build()
    kept = dict(line.split() for line in KEPT.read_text().splitlines()) if KEPT.exists() else {}
    found, worse = {}, []
    for kind in KINDS:
        difference = instructions(program, kind, MANY) - instructions(program, kind, FEW)
        found[kind] = round(difference / (MANY - FEW))
        before = int(kept.get(kind, 0))
        print(f"{kind}: {found[kind]} instructions a message, {before} kept")
        if not args.bless and found[kind] > before * WORSE:
            worse.append(kind)
    if args.bless:
        KEPT.write_text("".join(f"{kind} {count}\n" for kind, count in found.items()))
    if worse:
        sys.exit(f"more than 5 percent above the kept figure: {', '.join(worse)}")


if __name__ == "__main__":
    main()
