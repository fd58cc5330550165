#!/usr/bin/env python3
"""Runs the fuzzing targets of fuzz/ one after the other.

    scripts/fuzz.py [--seconds N] [--if-there] [TARGET...]

Needs a nightly compiler and cargo-fuzz. When they are not there it says how to install them, and installs nothing; with
--if-there that is no failure. Ends with 1 when a target found something: it says then how to run that input again, which
belongs into fuzz/corpus/TARGET once it is understood. The corpora of a run are kept in fuzz/target/corpus, not in fuzz/corpus.
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
    if shutil.which("rustup") is None:
        lines.append("rustup is not installed: https://rustup.rs")
    elif subprocess.run(["cargo", "+nightly", "--version"], capture_output=True).returncode != 0:
        lines.append("there is no nightly compiler: rustup toolchain install nightly --profile minimal")
    if shutil.which("cargo-fuzz") is None:
        lines.append("cargo-fuzz is not installed: cargo install cargo-fuzz --locked")
    return lines


def run(target, seconds):
    """Whether nothing was found."""
    kept = ROOT / "fuzz/target/corpus" / target
    kept.mkdir(parents=True, exist_ok=True)
    artifacts = ROOT / "fuzz/artifacts" / target
    before = set(artifacts.glob("*"))
    print(f"{target}: {seconds} s", flush=True)
    # What is new goes to the first folder.
    command = ["cargo", "+nightly", "fuzz", "run", target, str(kept), f"fuzz/corpus/{target}", "--"]
    done = subprocess.run([*command, f"-max_total_time={seconds}", "-print_final_stats=1"], cwd=ROOT)
    for found in sorted(set(artifacts.glob("*")) - before):
        print(f"{target}: cargo +nightly fuzz run {target} {found.relative_to(ROOT)}")
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each target (600)")
    parser.add_argument("--if-there", action="store_true", help="pass when what is needed is not installed")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all when none is named")
    args = parser.parse_args()
    known = sorted(path.stem for path in (ROOT / "fuzz/fuzz_targets").glob("*.rs"))
    for target in args.targets:
        if target not in known:
            parser.error(f"no target {target}; there are {', '.join(known)}")
    if lacking := missing():
        if args.if_there:
            print("SKIP: " + "; ".join(lacking))
            return
        sys.exit("\n".join(lacking))
    failed = [target for target in args.targets or known if not run(target, args.seconds)]
    if failed:
        sys.exit(f"found something: {', '.join(failed)}")
    print("nothing was found")


if __name__ == "__main__":
    main()
