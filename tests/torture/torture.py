#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGKILL hfbusd at random moments under load, and see that nothing acked is lost.

Producers publish over shared memory at ack `durable` and keep a file of every ack; hfbusd is
killed, now and then while it is still starting, and started again; producers reconnect and send
again what was not acked. A consumer stays attached through all of it. At the end everything is
read back and checked by this program, which shares no code with hfbus.

A kill does not lose the page cache: what an unsynced disk loses is the crash images' business.

usage: torture.py BUILD_DIR [--kills 20] [--seed N] [--producers 4] [--partitions 2] [--rate 6000]
                            [--ack durable] [--journal]
Prints JSON; exit 0 when lost, duplicated and reordered are 0 and nothing else was found.
"""
import argparse
import glob
import json
import random
import sys
import time

from torturelib import Bus, Checker, Failed, judge, main, read_acks

TOPIC = "torture"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--journal", action="store_true",
                        help="fail unless kills left journals; from 4 partitions on there are some")
    parser.add_argument("--rate", type=int, default=6000, help="events a second and producer")
    parser.add_argument("--ack", default="durable",
                        help="received: shows that the checker sees losses, for there are some")
    return parser.parse_args()


def kill_and_start(bus, chance):
    """Kill a running hfbusd; now and then again before it is ready. Returns kills."""
    kills = 1
    time.sleep(chance.uniform(0.05, 1.0))
    if not bus.hfbusd.alive():
        raise Failed(f"hfbusd ended by itself with {bus.hfbusd.process.returncode}")
    bus.hfbusd.kill()
    bus.journals += bool(glob.glob(f"{bus.data}/journal/*.journal"))
    while chance.random() < 0.15:
        bus.start_hfbusd(wait=False)
        time.sleep(chance.uniform(0.0, 0.8))
        if not bus.hfbusd.alive():
            raise Failed(f"hfbusd did not start: {bus.hfbusd.process.returncode}")
        bus.hfbusd.kill()
        kills += 1
    bus.start_hfbusd()
    return kills


def check(bus, options, producers, watcher_lines):
    result = {"acked": 0, "lost": 0, "duplicated": 0, "reordered": 0, "read": 0, "damaged": 0,
              "misplaced": 0, "holes": 0, "consumer_differs": 0}
    for partition in range(options.partitions):
        checker = Checker()
        offset = 0
        for line in bus.read_back(TOPIC, partition):
            checker.take(line)
            if partition == 0 and offset < len(watcher_lines):
                seen = watcher_lines[offset]
                result["consumer_differs"] += \
                    (seen["offset"], seen["value"]) != (line["offset"], line["value"])
                offset += 1
        if partition == 0:
            # It saw everything that is there, and nothing that is not.
            result["consumer_differs"] += abs(len(watcher_lines) - checker.events)
        for producer in producers:
            if producer.partition != partition:
                continue
            acked, lost, misplaced = checker.check_acks(producer.number, read_acks(producer.acks))
            result["acked"] += acked
            result["lost"] += lost
            result["misplaced"] += misplaced
        result["read"] += checker.events
        for name in ("duplicated", "reordered", "damaged", "holes"):
            result[name] += getattr(checker, name)
    return result


def torture(bus, options):
    chance = random.Random(options.seed)
    bus.journals = 0
    bus.start_hfbusd()
    bus.start_control()
    bus.create(TOPIC, "--partitions", str(options.partitions), "--segment-bytes", "4M",
               "--ring-bytes", "1M")
    watcher = bus.run(bus.path("hfbus"), "consume", TOPIC, "--partition", "0", "--from",
                      "earliest", "--format", "json", "--data", bus.data, log="watcher.log")
    producers = [bus.producer(i, TOPIC, i % options.partitions, "--rate", str(options.rate),
                             "--ack", options.ack)
                 for i in range(options.producers)]
    kills = 0
    while kills < options.kills:
        kills += kill_and_start(bus, chance)
        for program in producers + [watcher, bus.control]:
            if not program.alive():
                raise Failed(f"{program.arguments[0]} ended with {program.process.returncode}")
    failed = [p.number for p in producers if p.stop() != 0]
    sent = [json.loads(p.rest()[-1]) for p in producers]
    watcher_lines = [line for line in bus.all_of(watcher, TOPIC, 0) if "value" in line]
    # Durable means durable: read it by a broker that has never had it in memory.
    bus.hfbusd.kill()
    bus.start_hfbusd()
    result = {"seed": options.seed, "kills": kills + 1, "journals": bus.journals}
    result.update(check(bus, options, producers, watcher_lines))
    result["sent"] = sum(s["sent"] for s in sent)
    result["resent_frames"] = sum(s["resent"] for s in sent)
    result["producers_failed"] = failed
    result["hfbusd_exit"] = bus.hfbusd.stop()
    return result


def run():
    options = arguments()
    print(f"seed {options.seed}", file=sys.stderr)
    began = time.monotonic()
    with Bus(options.build, "torture") as bus:
        result = torture(bus, options)
        result["seconds"] = round(time.monotonic() - began, 1)
        print(json.dumps(result))
        judge(result, ("lost", "duplicated", "reordered", "damaged", "misplaced", "holes",
                       "consumer_differs", "producers_failed", "hfbusd_exit"),
              ("acked", "journals") if options.journal else ("acked",))


if __name__ == "__main__":
    main(run)
