#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A consumer group whose members join, leave, are killed and stopped past their session, under load.

Members write down all they see (group_member.c); afterwards it is checked that
  - every event of the topic was processed at least once,
  - nothing before a commit was given to anybody after that commit was answered,
  - in one generation no partition had two readers,
  - a member that is out, or of an older generation, can commit nothing,
  - a committed offset never went back, over SIGKILLs of hfbus-control in between.
The counts are printed as JSON.

usage: groups.py BUILD_DIR [--seconds 20] [--strategy cooperative-sticky] [--rate 2000] [--seed N]
"""
import argparse
import collections
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

from torturelib import Bus, Failed, main

TOPIC, GROUP, PARTITIONS, SESSION_MS = "events", "workers", 12, 1200


class Control:
    """Requests to hfbus-control; it may die in between."""

    def __init__(self, data):
        self.path = os.path.join(data, "control.sock")
        self.socket = None

    def ask(self, op, seconds=20, **members):
        end = time.monotonic() + seconds
        while True:
            try:
                if self.socket is None:
                    self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                    self.socket.settimeout(15)
                    self.socket.connect(self.path)
                self.socket.send(json.dumps(dict(members, op=op)).encode())
                message = self.socket.recv(1 << 18)
                if not message:
                    raise ConnectionError
                answer = json.loads(message)
                if answer.get("code") not in ("EAGAIN", "ENOTCONN"):
                    return answer
            except OSError:
                if self.socket is not None:
                    self.socket.close()
                self.socket = None
            if time.monotonic() > end:
                raise Failed(f"hfbus-control does not answer {op}")
            time.sleep(0.02)


class Load:
    """Events at a steady rate, until it is stopped."""

    def __init__(self, bus, rate):
        self.sent = 0
        self.stopping = False
        self.process = subprocess.Popen([bus.path("hfbus"), "publish", TOPIC, "--quiet", "--data",
                                         bus.data], stdin=subprocess.PIPE)
        self.rate = rate
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        began = time.monotonic()
        while not self.stopping:
            due = int((time.monotonic() - began) * self.rate)
            if due > self.sent:
                lines = "".join(f"{i}\n" for i in range(self.sent, due))
                self.process.stdin.write(lines.encode())
                self.process.stdin.flush()
                self.sent = due
            time.sleep(0.01)
        self.process.stdin.close()

    def stop(self):
        self.stopping = True
        self.thread.join()
        if self.process.wait(timeout=60) != 0:
            raise Failed("the publisher failed")


class Torture:
    def __init__(self, bus, options):
        self.bus = bus
        self.options = options
        self.random = random.Random(options.seed)
        self.control = Control(bus.data)
        self.members = []
        self.files = []
        self.number = 0
        self.counts = collections.Counter()
        self.leave_ms = []
        self.out_ms = []
        self.committed = {}
        self.watching = True

    def join(self):
        self.number += 1
        path = os.path.join(self.bus.folder, f"member.{self.number}")
        instance = f"static-{self.number}" if self.number % 4 == 0 else "-"
        member = self.bus.run(self.bus.path("tests/torture/group-member"), self.bus.data, TOPIC,
                              GROUP, self.options.strategy, str(SESSION_MS), "100", instance,
                              path, log="members.log")
        self.members.append(member)
        self.files.append(path)
        member.instance = instance
        self.counts["joins"] += 1

    def group(self):
        answer = self.control.ask("group.members", group=GROUP)
        return answer if answer["ok"] else None

    def rest(self, what, seconds=30, without=None):
        """Until the group is stable, without that member, and each partition has its reader: how
        long it took, in ms."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            group = self.group()
            if group and group["group"]["state"] == "stable" and all(
                    m["member"] != without for m in group["members"]) and sum(
                    m["partitions_count"] for m in group["members"]) == PARTITIONS:
                return (time.monotonic() - began) * 1000
            time.sleep(0.004)
        raise Failed(f"{what}: the group does not come to rest: {group}")

    def id_of(self, member):
        """The member id of one of our processes, from hfbus-control."""
        for m in self.group()["members"]:
            if m["client"].endswith(f"/{member.process.pid}"):
                return m["member"]
        return None

    def leave(self, member):
        self.members.remove(member)
        ident = self.id_of(member)
        member.process.send_signal(signal.SIGTERM)
        if member.process.wait(timeout=30) != 0:
            raise Failed("a member that leaves failed")
        took = self.rest("leave", without=ident if member.instance == "-" else None)
        if member.instance == "-" and self.members and ident is not None:
            self.leave_ms.append(took)
        self.counts["leaves"] += 1

    def kill(self, member):
        self.members.remove(member)
        ident = self.id_of(member)
        member.kill()
        if ident is not None and self.members:
            self.out_ms.append(self.rest("kill", without=ident))
        self.counts["kills"] += 1

    def freeze(self, member):
        """Stopped past its session: it is out, its commit is refused, then it goes on."""
        ident = self.id_of(member)
        generation = self.group()["group"]["generation"]
        os.kill(member.process.pid, signal.SIGSTOP)
        if ident is not None and len(self.members) > 1:
            self.rest("stop", without=ident)
            for g in (generation, self.group()["group"]["generation"]):
                answer = self.control.ask("group.commit", group=GROUP, member=ident, generation=g,
                                          offsets={TOPIC: [[p, 1 << 40] for p in
                                                           range(PARTITIONS)]})
                if answer["ok"]:
                    raise Failed(f"a commit of {ident}, which is out, was taken")
                self.counts["fenced_commits_refused"] += 1
        else:
            time.sleep(SESSION_MS / 1000 + 0.3)
        os.kill(member.process.pid, signal.SIGCONT)
        self.counts["stops"] += 1

    def late_commit(self, member):
        """A member's commit with an older generation is refused though it is in."""
        ident = self.id_of(member)
        generation = self.group()["group"]["generation"]
        if ident is None or generation < 2:
            return
        answer = self.control.ask("group.commit", group=GROUP, member=ident,
                                  generation=generation - 1, offsets={TOPIC: [[0, 1 << 40]]})
        if answer["ok"]:
            raise Failed("a commit of an older generation was taken")
        self.counts["fenced_commits_refused"] += 1

    def control_dies(self):
        self.bus.control.kill()
        time.sleep(self.random.random() * 0.5)
        self.bus.start_control()
        self.counts["control_kills"] += 1

    def watch(self):
        """Committed offsets, again and again: none goes back."""
        control = Control(self.bus.data)
        while self.watching:
            try:
                answer = control.ask("group.fetch", group=GROUP,
                                     partitions={TOPIC: [[0, PARTITIONS]]})
            except Failed:
                return
            for partition, offset, _ in answer.get("offsets", {}).get(TOPIC, []):
                if offset < self.committed.get(partition, 0):
                    self.counts["offsets_that_went_back"] += 1
                self.committed[partition] = offset
            self.counts["looks_at_offsets"] += 1
            time.sleep(0.01)

    def run(self):
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        try:
            load = Load(self.bus, self.options.rate)
            try:
                self.chaos()
            finally:
                load.stop()
            self.drain()
        finally:
            self.watching = False
            watcher.join()
        for member in list(self.members):
            member.process.send_signal(signal.SIGTERM)
            if member.process.wait(timeout=30) != 0:
                raise Failed("a member failed at its end")

    def chaos(self):
        for _ in range(3):
            self.join()
        self.rest("start")
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end:
            time.sleep(self.random.random() * 0.6)
            member = self.random.choice(self.members)
            what = self.random.choice(["join", "join", "join", "leave", "kill", "stop", "stop", "late",
                                       "control"])
            if what == "join" and len(self.members) < 5 or len(self.members) < 2:
                self.join()
            elif what == "leave":
                self.leave(member)
            elif what == "kill":
                self.kill(member)
            elif what == "stop":
                self.freeze(member)
            elif what == "late":
                self.late_commit(member)
            elif what == "control":
                self.control_dies()

    def drain(self):
        """Until all that was published is committed."""
        end = time.monotonic() + 60
        while True:
            answer = self.control.ask("group.describe", group=GROUP)
            rows = answer.get("partitions", [])
            # An empty partition has nothing to commit.
            if len(rows) == PARTITIONS and all(r["end"] is not None and (r["end"] == 0 or
                                               r["lag"] == 0) for r in rows):
                return
            if time.monotonic() > end:
                raise Failed(f"the group does not catch up: {rows}")
            time.sleep(0.05)

    def check(self):
        given = collections.defaultdict(list)       # partition -> (ns, offset, member)
        commits = collections.defaultdict(list)     # partition -> (ns, offset)
        owners = collections.defaultdict(set)       # (generation, partition) -> members
        for number, path in enumerate(self.files):
            if not os.path.exists(path):
                continue
            with open(path, encoding="ascii", errors="replace") as lines:
                for line in lines:
                    if not line.endswith("\n"):
                        continue
                    f = line.split()
                    if f[0] == "E":
                        given[int(f[3])].append((int(f[1]), int(f[4])))
                        owners[int(f[2]), int(f[3])].add(number)
                        self.counts["given"] += 1
                    elif f[0] == "G":
                        for partition in f[3:]:
                            owners[int(f[2]), int(partition)].add(number)
                        self.counts["assignments"] += 1
                    elif f[0] == "C":
                        for pair in f[4:]:
                            partition, offset = pair.split(":")
                            commits[int(partition)].append((int(f[2]), int(offset)))
                            self.counts["commits"] += 1
                    elif f[0] == "F":
                        self.counts["member_commits_refused"] += 1
                    elif f[0] == "R":
                        self.counts["lost" if f[4] == "1" else "revoked"] += 1
        self.counts["generations"] = len({g for g, _ in owners})
        for name in ("two_owners", "given_again_after_commit", "not_processed"):
            self.counts[name] = 0
        for members in owners.values():
            self.counts["two_owners"] += len(members) > 1
        for partition, events in given.items():
            merged = sorted([(ns, 1, offset) for ns, offset in events] +
                            [(ns, 0, offset) for ns, offset in commits[partition]])
            high = 0
            for _, is_event, offset in merged:
                if not is_event:
                    high = max(high, offset)
                elif offset < high:
                    self.counts["given_again_after_commit"] += 1
        seen = {p: {offset for _, offset in events} for p, events in given.items()}
        done = self.bus.hfbus("consume", TOPIC, "--from", "earliest", "--until-end", "--format",
                              "json", "--quiet", seconds=300)
        for line in done.stdout.splitlines():
            event = json.loads(line)
            self.counts["published"] += 1
            self.counts["not_processed"] += event["offset"] not in seen.get(event["partition"], ())
        self.counts["processed_more_than_once"] = self.counts["given"] - sum(
            len(s) for s in seen.values())


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--strategy", default="cooperative-sticky")
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    with Bus(options.build, "groups") as bus:
        bus.start_hfbusd()
        bus.start_control()
        bus.create(TOPIC, "--partitions", str(PARTITIONS))
        torture = Torture(bus, options)
        try:
            torture.run()
            torture.check()
        finally:
            counts = dict(sorted(torture.counts.items()))
            for name, values in (("leave_ms", torture.leave_ms), ("dead_out_ms", torture.out_ms)):
                if values:
                    counts[name] = {"median": round(sorted(values)[len(values) // 2]),
                                    "max": round(max(values))}
            print(json.dumps(dict(counts, seed=options.seed, strategy=options.strategy,
                                  seconds=options.seconds)))
        for bad in ("two_owners", "given_again_after_commit", "not_processed",
                    "offsets_that_went_back"):
            if torture.counts[bad]:
                raise Failed(f"{bad}: {torture.counts[bad]}")
        if torture.counts["published"] == 0 or torture.counts["commits"] == 0:
            raise Failed("nothing happened")
        if options.seconds >= 15 and torture.leave_ms and \
                sorted(torture.leave_ms)[len(torture.leave_ms) // 2] > 1000:
            raise Failed("a clean leave takes more than a second")


if __name__ == "__main__":
    main(run)
