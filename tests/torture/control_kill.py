#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of hfbus-control under load, and hfbusd without it: events go on without an error.

Then kills in the middle of creates, alters and deletes, while a topic is compacted: what a command
confirmed holds, what it did not has happened or has not, and both catalogues agree in the end.

Also what `hfbus up` promises: it starts hfbus-control again, it ends with hfbusd's exit code, it
stops cleanly on SIGINT, and it leaves no process behind when it is killed itself.

usage: control_kill.py BUILD_DIR [--kills 5]
"""
import argparse
import json
import os
import random
import signal
import subprocess
import threading
import time

from torturelib import Bus, Checker, Failed, main, read_acks, wait_for

TOPIC = "steady"


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as names:
        pids = [int(x) for x in names.read().split()]
    found = {}
    for child in pids:
        try:
            with open(f"/proc/{child}/comm", encoding="ascii") as comm:
                found[comm.read().strip()] = child
        except FileNotFoundError:
            pass
    return found


def expect(condition, what):
    if not condition:
        raise Failed(what)


def start_up(bus):
    up = bus.run(bus.path("hfbus"), "up", "--data", bus.data, "--idle", "adaptive", log="up.log")
    line = up.wait_line("hfbus ready: data=")
    expect(line == f"hfbus ready: data={os.path.realpath(bus.data)}", f"ready line: {line}")
    return up


def control_dies(bus, kills):
    up = start_up(bus)
    bus.create(TOPIC)
    producer = bus.producer(1, TOPIC, 0, "--rate", "3000")
    reader = bus.run(bus.path("hfbus"), "consume", TOPIC, "--from", "earliest", "--format",
                     "json", "--data", bus.data, log="reader.log")
    time.sleep(0.5)
    bus_pid = children(up.process.pid)["hfbusd"]
    for _ in range(kills):
        old = wait_for("hfbus-control", lambda: children(up.process.pid).get("hfbus-control"))
        os.kill(old, signal.SIGKILL)
        # While it is away, events go on: acks come in.
        before = len(read_acks(producer.acks))
        wait_for("ack", lambda: len(read_acks(producer.acks)) > before)
        wait_for("restart", lambda: children(up.process.pid).get("hfbus-control") not in
                 (None, old))
        expect(producer.alive() and reader.alive(), "a client noticed")
    bus.create("after-the-kills")
    expect(children(up.process.pid)["hfbusd"] == bus_pid, "hfbusd is another one")
    expect(producer.stop() == 0, "the producer failed")
    sent = json.loads(producer.rest()[-1])
    expect(sent["reconnects"] == 0, "the producer lost its connection")
    time.sleep(0.5)
    reader.stop()
    checker = Checker()
    for line in reader.rest():
        checker.take(json.loads(line))
    acked, lost, misplaced = checker.check_acks(1, read_acks(producer.acks))
    expect(acked == sent["sent"] > 0 and lost == misplaced == 0, f"{lost} of {acked} are lost")
    expect(checker.damaged + checker.duplicated + checker.reordered + checker.holes == 0,
           "the reader did not see what was sent")
    up.process.send_signal(signal.SIGINT)
    expect(up.process.wait(timeout=30) == 0, f"hfbus up ended with {up.process.returncode}")
    return acked


class Churn(threading.Thread):
    """Changes topics one by one; for each name the states it may be in: None, or its settings."""

    def __init__(self, bus):
        super().__init__(daemon=True)
        self.bus, self.ended = bus, False
        self.may_be = {f"churn-{i}": {None} for i in range(12)}
        self.confirmed = self.unsure = 0

    def command(self, *arguments):
        return self.bus.hfbus("topic", *arguments, check=False).returncode == 0

    def step(self):
        name = random.choice(list(self.may_be))
        before = self.may_be[name]
        size = f"{random.randrange(1, 1000)}"
        known = [s for s in before if s is not None]
        kind = random.random()
        if None in before and kind < 0.6 or not known:
            fine = self.command("create", name, "--partitions", "2", "--retention-bytes", size,
                                "--cleanup", random.choice(["delete", "compact"]))
            after = {(2, int(size))}
        elif kind < 0.4:
            fine = self.command("delete", name)
            after = {None}
        elif kind < 0.8:
            fine = self.command("alter", name, "--retention-bytes", size)
            after = {(s[0], int(size)) for s in known}
        else:
            fine = self.command("add-partitions", name, "1")
            after = {(s[0] + 1, s[1]) for s in known}
        self.may_be[name] = after if fine else before | after
        self.confirmed += fine
        self.unsure += not fine

    def run(self):
        while not self.ended:
            self.step()

    def wrong(self, topics):
        there = {t["name"]: (t["partitions"], t["retention_bytes"]) for t in topics}
        return {n: (there.get(n), s) for n, s in self.may_be.items() if there.get(n) not in s}


def topics_settled(bus):
    done = bus.hfbus("topic", "list", "--json", check=False)
    if done.returncode != 0:
        return None
    topics = json.loads(done.stdout)["topics"]
    return topics if all(t["state"] == "ready" for t in topics) else None


def metadata_holds(bus, kills):
    """SIGKILL of hfbus-control among changes of topics."""
    up = start_up(bus)
    bus.create("compacted", "--cleanup", "compact", "--segment-bytes", "1M")
    publish = subprocess.Popen([bus.path("hfbus"), "publish", "compacted", "--key-delimiter", "|",
                                "--quiet", "--data", bus.data], stdin=subprocess.PIPE)
    churn = Churn(bus)
    churn.start()
    sent = 0
    for _ in range(kills):
        until = time.monotonic() + random.uniform(0.02, 0.4)
        while time.monotonic() < until:
            publish.stdin.write(b"".join(b"k%d|%d %s\n" % (sent % 50, sent, b"x" * 400)
                                         for sent in range(sent, sent + 100)))
            publish.stdin.flush()
            sent += 100
            time.sleep(0.01)
        old = wait_for("hfbus-control", lambda: children(up.process.pid).get("hfbus-control"))
        os.kill(old, signal.SIGKILL)
        wait_for("restart", lambda: children(up.process.pid).get("hfbus-control") not in
                 (None, old))
    churn.ended = True
    churn.join(60)
    publish.stdin.close()
    expect(publish.wait(timeout=60) == 0, "publishing failed")
    topics = wait_for("agreement of both catalogues", lambda: topics_settled(bus))
    expect(not churn.wrong(topics), f"topics are not as confirmed: {churn.wrong(topics)}")
    up.process.send_signal(signal.SIGINT)
    expect(up.process.wait(timeout=30) == 0, f"hfbus up ended with {up.process.returncode}")
    # and the same from what each of them has on disk
    up = start_up(bus)
    again = wait_for("agreement after a restart", lambda: topics_settled(bus))
    expect(again == topics, "a restart changed the topics")
    status = json.loads(bus.hfbus("topic", "describe", "compacted", "--json").stdout)
    expect(status["partitions"][0]["committed"]["offset"] == sent, "events are missing")
    folders = set(os.listdir(os.path.join(bus.data, "topics")))
    gone = {n for n, s in churn.may_be.items() if n not in {t["name"] for t in topics}}
    expect(not folders & gone, f"files of deleted topics: {folders & gone}")
    up.process.send_signal(signal.SIGINT)
    expect(up.process.wait(timeout=30) == 0, f"hfbus up ended with {up.process.returncode}")
    return {"changes_confirmed": churn.confirmed, "changes_unsure": churn.unsure}


def hfbusd_alone(bus):
    """The topics are hfbusd's own by now: no control plane is needed to use them."""
    bus.start_hfbusd()
    producer = bus.producer(2, TOPIC, 0, "--count", "5000")
    expect(producer.process.wait(timeout=30) == 0, "publishing failed without hfbus-control")
    values = [line["value"] for line in bus.read_back(TOPIC, 0)]
    expect(sum(v.startswith("2 ") for v in values) == 5000, "consuming failed")
    done = bus.hfbus("topic", "list", check=False)
    expect(done.returncode == 1 and "hfbus up" in done.stderr, f"no clear error: {done.stderr}")
    expect(bus.hfbusd.stop() == 0, "hfbusd did not stop cleanly")


def up_ends_with_hfbusd(bus):
    up = start_up(bus)
    pids = children(up.process.pid)
    os.kill(pids["hfbusd"], signal.SIGKILL)
    expect(up.process.wait(timeout=30) == 128 + signal.SIGKILL,
           f"hfbus up ended with {up.process.returncode}")
    wait_gone(pids)


def nothing_is_left(bus):
    up = start_up(bus)
    pids = children(up.process.pid)
    expect(set(pids) == {"hfbusd", "hfbus-control"}, f"children: {pids}")
    up.kill()
    wait_gone(pids)


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_gone(pids):
    for name, pid in pids.items():
        wait_for(f"end of {name}", lambda p=pid: gone(p))


def run():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with Bus(options.build, "control-kill") as bus:
        acked = control_dies(bus, options.kills)
        hfbusd_alone(bus)
        up_ends_with_hfbusd(bus)
        nothing_is_left(bus)
    with Bus(options.build, "control-churn") as bus:
        changes = metadata_holds(bus, options.kills)
    print(json.dumps({"kills": 2 * options.kills, "acked": acked, **changes, "errors": 0}))


if __name__ == "__main__":
    main(run)
