#!/usr/bin/env python3
"""Runs the fuzzing targets of fuzz/ one after the other.

    scripts/fuzz.py [--seconds N] [TARGET...]

Needs a nightly compiler and cargo-fuzz, and says so when they are not there; installs nothing. Ends with 1 when a target
found something; what it found lies in fuzz/artifacts/TARGET.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def missing():
    """What has to be installed first, one line each."""
    lines = []
    if shutil.which("cargo-fuzz") is None:
        lines.append("cargo-fuzz is not installed: cargo install cargo-fuzz --locked")
    nightly = subprocess.run(["cargo", "+nightly", "--version"], capture_output=True)
    if nightly.returncode != 0:
        lines.append("there is no nightly compiler: rustup toolchain install nightly")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each target (600)")
    parser.add_argument("targets", nargs="*", help="all when none is named")
    args = parser.parse_args()
    known = sorted(path.stem for path in (ROOT / "fuzz/fuzz_targets").glob("*.rs"))
    for target in args.targets:
        if target not in known:
            parser.error(f"no target {target}; there are {', '.join(known)}")
    lacking = missing()
    if lacking:
        sys.exit("\n".join(lacking))
    failed = []
    for target in args.targets or known:
        print(f"{target}: {args.seconds} s", flush=True)
        command = ["cargo", "+nightly", "fuzz", "run", target, "--"]
        command.append(f"-max_total_time={args.seconds}")
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            failed.append(target)
    if failed:
        sys.exit(f"found something: {', '.join(failed)}")
    print("nothing was found")


if __name__ == "__main__":
    main()
