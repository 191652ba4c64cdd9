#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGKILL local producers and readers at random moments while others work.

Victims share memory with hfbusd when they die: in the midst of a frame, of a batch, of a read.
The bus, two steady producers and a steady reader must not notice. What a victim saw acked is
there, once; what hfbusd kept for it is given back.

usage: local_kill.py BUILD_DIR [--kills 40] [--seed N]
Prints JSON; exit 0 when nobody noticed.
"""
import argparse
import json
import random
import signal
import sys
import time

from torturelib import Bus, Checker, Failed, judge, main, read_acks, wait_for

TOPIC = "shared"
PARTITIONS = 2
VICTIMS_AT_ONCE = 4


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    return parser.parse_args()


def counter(bus, name):
    """A counter of hfbusd, summed over its cores, by `hfbus stat --json`."""
    found = json.loads(bus.hfbus("stat", "--json").stdout)
    total = 0

    def walk(node):
        nonlocal total
        if isinstance(node, dict):
            if node.get("name") == name and isinstance(node.get("value"), int):
                total += node["value"]
            for key, value in node.items():
                if key == name and isinstance(value, int):
                    total += value
                else:
                    walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(found)
    return total


def victim(bus, number, chance):
    if chance.random() < 0.5:
        rate = chance.choice(["0", "500", "5000"])
        count = ["--count", "100000"] if rate == "0" else []
        return bus.producer(number, TOPIC, chance.randrange(PARTITIONS), "--rate", rate, "--max",
                            "2000", "--ack", chance.choice(["durable", "received"]), *count)
    return bus.run(bus.path("hfbus"), "consume", TOPIC, "--partition",
                   str(chance.randrange(PARTITIONS)), "--from",
                   chance.choice(["earliest", "latest"]), "--format", "raw", "--data", bus.data,
                   log="victims.log")


def check_alive(bus, steady, pid):
    if not bus.hfbusd.alive() or bus.hfbusd.process.pid != pid:
        raise Failed(f"hfbusd ended with {bus.hfbusd.process.returncode}")
    for program in steady:
        if not program.alive():
            raise Failed(f"{program.arguments[0]} noticed: it ended with "
                         f"{program.process.returncode}")


def kill_all(bus, options, chance, steady):
    victims, dead, number, kills = [], [], 100, 0
    pid = bus.hfbusd.process.pid
    while kills < options.kills:
        while len(victims) < VICTIMS_AT_ONCE:
            number += 1
            victims.append(victim(bus, number, chance))
        time.sleep(chance.uniform(0.0, 0.25))
        one = victims.pop(chance.randrange(len(victims)))
        if chance.random() < 0.2:   # stuck for a while first
            one.process.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
        if one.alive():
            kills += 1
        one.kill()
        dead.append(one)
        check_alive(bus, steady, pid)
    for one in victims:
        one.kill()
        dead.append(one)
    return kills, [d for d in dead if hasattr(d, "acks")]


def local_kill(bus, options):
    chance = random.Random(options.seed)
    bus.start_hfbusd()
    bus.start_control()
    bus.create(TOPIC, "--partitions", str(PARTITIONS), "--ring-bytes", "1M")
    steady = [bus.producer(i, TOPIC, i, "--rate", "1500") for i in range(PARTITIONS)]
    reader = bus.run(bus.path("hfbus"), "consume", TOPIC, "--partition", "0", "--from",
                     "earliest", "--format", "json", "--data", bus.data, log="reader.log")
    # all are connected and at work, hfbus-control's writer of offsets too
    wait_for("groups", lambda: bus.hfbus("group", "list", check=False).returncode == 0)
    seen = [json.loads(reader.next_line())]
    for producer in steady:
        wait_for("ack", lambda acks=producer.acks: read_acks(acks))
    clients = counter(bus, "local_clients")
    kills, dead = kill_all(bus, options, chance, steady + [reader])
    wait_for(f"return to {clients} clients", lambda: counter(bus, "local_clients") <= clients)
    failed = [p.number for p in steady if p.stop() != 0]
    seen += bus.all_of(reader, TOPIC, 0)
    result = {"seed": options.seed, "kills": kills, "acked": 0, "lost": 0, "duplicated": 0,
              "reordered": 0, "damaged": 0, "misplaced": 0, "holes": 0, "reader_differs": 0,
              "clients_before": clients, "steady_failed": failed}
    for partition in range(PARTITIONS):
        checker = Checker()
        lines = list(bus.read_back(TOPIC, partition))
        for line in lines:
            checker.take(line)
        if partition == 0:
            values = [(s["offset"], s.get("value")) for s in seen if "offset" in s]
            result["reader_differs"] = int(values != [(x["offset"], x["value"]) for x in lines])
        for producer in steady + dead:
            if producer.partition == partition:
                acked, lost, misplaced = checker.check_acks(producer.number,
                                                            read_acks(producer.acks))
                result["acked"] += acked
                result["lost"] += lost
                result["misplaced"] += misplaced
        for name in ("duplicated", "reordered", "damaged", "holes"):
            result[name] += getattr(checker, name)
    result["hfbusd_exit"] = bus.hfbusd.stop()
    return result


def run():
    options = arguments()
    print(f"seed {options.seed}", file=sys.stderr)
    with Bus(options.build, "local-kill") as bus:
        result = local_kill(bus, options)
        print(json.dumps(result))
        judge(result, ("lost", "duplicated", "reordered", "damaged", "misplaced", "holes",
                       "reader_differs", "steady_failed", "hfbusd_exit"),
              ("acked", "clients_before"))


if __name__ == "__main__":
    main(run)
