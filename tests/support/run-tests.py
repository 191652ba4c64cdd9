#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build and test hfbus in several lanes; the last line counts them all.

A lane is a build folder of its own with other options. A lane that does not
build counts as one failed test, and the clang lane is one test: that the whole
project compiles without a warning.
"""
import argparse
import glob
import json
import os
import subprocess
import sys
import time

# folder suffix, compiler, meson options, ninja targets, meson test arguments (None: build only)
SANITIZER_ARGS = ["-Djemalloc=disabled", "-Db_lundef=false", "-Dmode=developer",
                  "--buildtype=debugoptimized"]
LANES = {
    "normal": ("", None, [], [], ["-t", "4"]),  # of each time limit: machines are loaded
    "sanitize": ("-sanitize", None, ["-Db_sanitize=address,undefined"] + SANITIZER_ARGS,
                 [], ["--suite", "unit", "-t", "4"]),
    "tsan": ("-tsan", None, ["-Db_sanitize=thread"] + SANITIZER_ARGS,
             ["tsan_tests"], ["--suite", "tsan", "-t", "4"]),
    "clang": ("-clang", "clang", ["-Dwerror=true", "-Dmode=developer"], [], None),
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:abort_on_error=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}
PASSED = {"OK", "EXPECTEDFAIL"}


def say(text):
    print(text, flush=True)


def quiet(command, log, env):
    """Run; show the end of what it said only when it fails."""
    with open(log, "w") as to:
        code = subprocess.run(command, stdout=to, stderr=subprocess.STDOUT, env=env).returncode
    if code != 0:
        with open(log) as back:
            lines = back.readlines()
        found = [line for line in lines if "error:" in line or "warning:" in line]
        say("".join(found[:60] or lines[-60:]))
        say(f"failed: {' '.join(command)} (all of it: {log})")
    return code == 0


def fixed_addresses():
    """ThreadSanitizer of gcc 12 and clang 14 aborts where mmap is randomised over 32 bits."""
    probe = subprocess.run(["setarch", "-R", "true"], stderr=subprocess.DEVNULL)
    return ["--wrapper", "setarch -R"] if probe.returncode == 0 else []


def logs(folder):
    """meson's logs of the last run; a wrapper's name is part of theirs."""
    return glob.glob(os.path.join(folder, "meson-logs", "testlog*.json"))


def results(folder):
    """What meson wrote about each test: a JSON object a line."""
    (path,) = logs(folder)
    with open(path) as lines:
        return [json.loads(line)["result"] for line in lines if line.strip()]


def lane_run(name, base, count):
    suffix, compiler, options, targets, test_args = LANES[name]
    folder = base + suffix
    env = dict(os.environ, **{k: v for k, v in ENVIRONMENT.items() if k not in os.environ})
    if compiler:
        env["CC"] = compiler
    say(f"\n== {name}: {folder}")
    started = time.monotonic()

    if not os.path.exists(os.path.join(folder, "build.ninja")):
        os.makedirs(folder, exist_ok=True)
        log = folder.rstrip("/") + "-setup.log"
        if not quiet(["meson", "setup", folder] + options, log, env):
            count["failed"] += 1
            return
        os.unlink(log)
    if not quiet(["ninja", "-C", folder, "-k", "20"] + targets, os.path.join(folder, "ninja.log"), env):
        count["failed"] += 1
        return
    if test_args is None:
        count["passed"] += 1
        say(f"builds without a warning, {time.monotonic() - started:.0f} s")
        return

    for log in logs(folder):
        os.unlink(log)
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs"] + test_args
    if name == "tsan":
        command += fixed_addresses()
    code = subprocess.run(command, env=env).returncode
    try:
        found = results(folder)
    except (OSError, ValueError, KeyError) as why:
        say(f"no results of {name}: {why}")
        count["failed"] += 1
        return
    failed = sum(r not in PASSED and r != "SKIP" for r in found)
    count["passed"] += sum(r in PASSED for r in found)
    count["skipped"] += sum(r == "SKIP" for r in found)
    # meson may fail for reasons of its own, and a lane without tests has shown nothing
    count["failed"] += failed if failed or (code == 0 and found) else 1
    say(f"{len(found)} tests, {time.monotonic() - started:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build", help="folder of the normal lane")
    parser.add_argument("--lanes", default=",".join(LANES), help=f"of {', '.join(LANES)}")
    args = parser.parse_args()
    lanes = [name for name in args.lanes.replace(",", " ").split() if name]
    for name in lanes:
        if name not in LANES:
            parser.error(f"no lane {name}; there are {', '.join(LANES)}")

    count = {"passed": 0, "failed": 0, "skipped": 0}
    for name in lanes:
        lane_run(name, args.build, count)
    say(f"\n{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 0 if count["failed"] == 0 and count["passed"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
