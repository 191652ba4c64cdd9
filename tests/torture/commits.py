#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Commits at a rate, and what they cost the bus: its own times from received to durable, in windows
with and without commits, alternating in one run.

usage: commits.py BUILD_DIR [--rate 50000] [--window 3] [--windows 10] [--load 20000] [--pin]

Prints JSON. Fails when a commit is refused; with --judge also when less than 98 % of the rate is
committed or the p99s of the windows differ by 20 % or more (on a machine of its own only).
"""
import argparse
import json
import statistics
import subprocess
import time

from torturelib import Bus, Failed, main

PARTITIONS, MEMBERS = 100, 10


def received_to_durable(bus, seconds):
    """The stage over all cores, in a window from now."""
    done = bus.hfbus("stat", "--latency", "--interval", f"{round(seconds * 1000)}ms", "--json")
    return next(s for s in json.loads(done.stdout)["stages"]
                if s["stage"] == "received_durable" and s["core"] == "all")


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build")
    parser.add_argument("--rate", type=int, default=50000)
    parser.add_argument("--window", type=float, default=3)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--load", type=int, default=20000)
    parser.add_argument("--pin", action="store_true", help="hfbusd on CPU 1, the rest on CPU 0")
    parser.add_argument("--judge", action="store_true")
    options = parser.parse_args()
    with Bus(options.build, "commits") as bus:
        if options.pin:
            bus.hfbusd = bus.run("taskset", "-c", "1", bus.path("hfbusd"), "--data", bus.data,
                                 "--idle", "busy", "--cores", "1", log="hfbusd.log", ready="ready")
        else:
            bus.start_hfbusd()
        here = ["taskset", "-c", "0"] if options.pin else []
        bus.control = bus.run(*here, bus.path("hfbus-control"), "--data", bus.data,
                              log="control.log", ready="ready")
        bus.create("steady")
        bus.create("committed", "--partitions", str(PARTITIONS))
        producer = bus.producer(1, "steady", 0, "--rate", str(options.load), "--max", "200")
        if options.pin:
            subprocess.run(["taskset", "-a", "-p", "-c", "0", str(producer.process.pid)],
                           check=True, stdout=subprocess.DEVNULL)
        load = subprocess.Popen([*here, bus.path("tests/torture/commit-load"), bus.data,
                                 "committed", str(PARTITIONS), str(MEMBERS), str(options.rate)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            measure(bus, load, options)
        finally:
            load.kill()
            load.wait()
        if producer.stop() != 0:
            raise Failed("the publisher failed")


def measure(bus, load, options):
    if load.stdout.readline().strip() != "ready":
        raise Failed("the members of the load do not get in")
    time.sleep(1)
    results = {True: [], False: []}
    for i in range(options.windows):
        on = i % 2 == 1
        load.stdin.write("on\n" if on else "off\n")
        load.stdin.flush()
        time.sleep(0.3)
        results[on].append(received_to_durable(bus, options.window))
    load.stdin.write("off\n")
    load.stdin.flush()
    time.sleep(0.5)
    load.stdin.write("end\n")
    load.stdin.flush()
    lines = load.stdout.read().split("\n")
    total, refused, late = next([int(x) for x in line.split()[1:]] for line in lines
                                if line.startswith("end"))
    seconds = [tuple(int(x) for x in line.split()) for line in lines
               if line and line[0].isdigit()]
    rate = statistics.median(s[0] for s in seconds) if seconds else 0
    report = {"rate": rate, "seconds": len(seconds), "total": total, "refused": refused,
              "late_requests": late, "slowest_answer_us": max((s[1] for s in seconds), default=0)}
    for name in ("p50_ns", "p99_ns"):
        without = statistics.median(w[name] for w in results[False])
        with_commits = statistics.median(w[name] for w in results[True])
        report[name] = {"without": without, "with": with_commits,
                        "more": round(with_commits / without - 1, 3),
                        "all_without": [w[name] for w in results[False]],
                        "all_with": [w[name] for w in results[True]]}
    print(json.dumps(report))
    if refused or total == 0 or options.judge and rate < 0.98 * options.rate:
        raise Failed(f"{rate} commits/s of {options.rate}, {refused} refused")
    if options.judge and abs(report["p99_ns"]["more"]) >= 0.2:
        raise Failed("the p99 from received to durable differs by 20 % or more")


if __name__ == "__main__":
    main(run)
