#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of hfbus-control among changes of topics, commits and compaction, and what it costs the
bus: its own times from received to durable, in windows with and without kills, alternating in one run.

usage: control_windows.py BUILD_DIR [--kills 100] [--window 3] [--every 0.5] [--rate 20000] [--pin]

Topics are created, altered and deleted, offsets committed and a topic compacted in all windows; a
publisher measures from the intended send time to the ack `durable`. Prints JSON. Fails when what was
confirmed does not hold, a committed offset goes back, or the publisher fails; with --judge also when
the p99s of the bus differ by 20 % or more (on a machine of its own only).
"""
import argparse
import json
import math
import os
import random
import statistics
import subprocess
import threading
import time

from commits import received_to_durable
from control_kill import Churn, expect, topics_settled
from torturelib import Bus, Failed, main, wait_for

KEYS = 50


class PacedChurn(Churn):
    """So many changes a second in all windows: without a pace they are fewer amid kills."""

    PAUSE_SECONDS = 0.2

    def run(self):
        while not self.ended:
            self.step()
            time.sleep(self.PAUSE_SECONDS)


class Committer(threading.Thread):
    """Commits ever higher offsets of a group; what was confirmed must be there for good."""

    def __init__(self, bus):
        super().__init__(daemon=True)
        self.bus, self.ended, self.confirmed, self.tried, self.commits = bus, False, 0, 0, 0
        self.answer = None

    def run(self):
        while not self.ended:
            self.tried += random.randrange(1, 10)
            done = self.bus.hfbus("offset", "commit", "--group", "steadfast", "--topic", "steady",
                                  "--partition", "0", "--offset", str(self.tried), check=False)
            if done.returncode == 0:
                self.confirmed = self.tried
                self.commits += 1
            time.sleep(0.05)

    def committed(self):
        """What the group's one partition has; None, and why not, while nobody tells."""
        done = self.bus.hfbus("offset", "list", "--group", "steadfast", "--json", check=False)
        self.answer = done.stderr.strip() or done.stdout
        if done.returncode != 0:
            return None
        partition, = json.loads(done.stdout)["partitions"]
        return partition["committed"]


class Rewriter(threading.Thread):
    """Events over a few keys into a topic that is compacted."""

    def __init__(self, bus):
        super().__init__(daemon=True)
        self.bus, self.ended, self.sent, self.code = bus, False, 0, None

    def run(self):
        with subprocess.Popen([self.bus.path("hfbus"), "publish", "compacted", "--key-delimiter",
                               "|", "--quiet", "--data", self.bus.data],
                              stdin=subprocess.PIPE) as publish:
            while not self.ended and publish.poll() is None:
                publish.stdin.write(b"".join(b"k%d|%d %s\n" % (n % KEYS, n, b"x" * 400)
                                             for n in range(self.sent, self.sent + 20)))
                publish.stdin.flush()
                self.sent += 20
                time.sleep(0.02)
            publish.stdin.close()
            self.code = publish.wait()


def start_control(bus, here):
    bus.control = bus.run(*here, bus.path("hfbus-control"), "--data", bus.data, "--http", "off",
                          log="control.log", ready="ready")


def client(bus, here, options):
    """Latencies of a publisher over one window."""
    return subprocess.Popen([*here, bus.path("hfbus-bench"), "echo", "--data", bus.data, "--topic",
                             "steady", "--ack", "durable", "--rate", str(options.rate),
                             "--duration", f"{round(options.window * 1000)}ms", "--json"],
                            stdout=subprocess.PIPE, text=True)


def client_latency(text):
    """p99 in nanoseconds of what hfbus-bench echo printed."""
    p99 = json.loads(text)["metrics"]["ack.p99"]
    expect(p99["unit"] == "us", p99)
    return p99["median"] * 1000


def window(bus, here, options, kill):
    """((bus's own stage, client's p99), kills) of one window."""
    killed = 0
    publisher = client(bus, here, options)
    stage = {}
    look = threading.Thread(target=lambda: stage.update(received_to_durable(bus, options.window)))
    look.start()
    while look.is_alive():
        if kill:
            time.sleep(random.uniform(0.5, 1.5) * options.every)
            bus.control.kill()
            start_control(bus, here)
            killed += 1
        else:
            look.join(0.05)
    look.join()
    out, _ = publisher.communicate(timeout=60)
    expect(publisher.returncode == 0, f"the publisher ended with {publisher.returncode}")
    expect(stage, "no stage times")
    return stage, client_latency(out), killed


def measure(bus, here, options):
    results = {True: [], False: []}
    kills = 0
    windows = 2 * math.ceil(options.kills * options.every / options.window)
    i = 0
    while kills < options.kills or i < windows or i % 2 == 1:
        stage, p99, killed = window(bus, here, options, i % 2 == 1)
        results[i % 2 == 1].append((stage, p99))
        kills += killed
        i += 1
    report = {"kills": kills, "windows": i}
    for name, of in (("p50_ns", lambda r: r[0]["p50_ns"]), ("p99_ns", lambda r: r[0]["p99_ns"]),
                     ("client_p99_ns", lambda r: r[1])):
        without, with_kills = (statistics.median(of(r) for r in results[k]) for k in (False, True))
        report[name] = {"without": without, "with": with_kills,
                        "more": round(with_kills / without - 1, 3),
                        "all_without": [of(r) for r in results[False]],
                        "all_with": [of(r) for r in results[True]]}
    return report


def run(bus, options):
    here = ["taskset", "-c", "0"] if options.pin else []
    if options.pin:
        # only the poll core: its helpers, which make and compact files, are not in its way
        bus.hfbusd = bus.run(bus.path("hfbusd"), "--data", bus.data, "--idle", "busy", "--cores",
                             "1", log="hfbusd.log", ready="ready")
        os.sched_setaffinity(0, {0})
    else:
        bus.start_hfbusd()
    start_control(bus, here)
    bus.create("steady")
    bus.create("compacted", "--cleanup", "compact", "--segment-bytes", "1M")
    others = [PacedChurn(bus), Committer(bus), Rewriter(bus)]
    for other in others:
        other.start()
    time.sleep(1)
    try:
        report = measure(bus, here, options)
    finally:
        for other in others:
            other.ended = True
        for other in others:
            other.join(60)
    churn, committer, rewriter = others
    topics = wait_for("agreement of both catalogues", lambda: topics_settled(bus))
    expect(not churn.wrong(topics), f"topics are not as confirmed: {churn.wrong(topics)}")
    try:
        committed = wait_for("committed offset", committer.committed)
    except Failed as failure:
        raise Failed(f"{failure}: {committer.answer}") from None
    expect(committer.confirmed <= committed <= committer.tried,
           f"committed is {committed}, confirmed was {committer.confirmed}")
    expect(rewriter.code == 0, "publishing to the compacted topic failed")
    last = {}
    done = bus.hfbus("consume", "compacted", "--from", "earliest", "--until-end", "--format", "json")
    for line in done.stdout.splitlines():
        event = json.loads(line)
        if "value" in event:
            last[event["key"]] = int(event["value"].split()[0])
    expect(sorted(last.values()) == list(range(rewriter.sent - KEYS, rewriter.sent)),
           "the compacted topic does not hold the last event of each key")
    report.update(changes_confirmed=churn.confirmed, changes_unsure=churn.unsure,
                  commits=committer.commits, compacted_events=rewriter.sent)
    print(json.dumps(report))
    if options.judge and abs(report["p99_ns"]["more"]) >= 0.2:
        raise Failed("the p99 from received to durable differs by 20 % or more")


def windows():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--window", type=float, default=3)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between kills")
    parser.add_argument("--rate", type=int, default=20000)
    parser.add_argument("--pin", action="store_true", help="the poll core on CPU 1, the rest on CPU 0")
    parser.add_argument("--judge", action="store_true")
    options = parser.parse_args()
    with Bus(options.build, "control-windows") as bus:
        run(bus, options)


if __name__ == "__main__":
    main(windows)
