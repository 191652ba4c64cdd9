#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hfbus-control against a stand-in for hfbusd: its rules, and clients that mean no good.

usage: test_control.py BUILD_DIR
"""
import errno
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from fake_hfbusd import DELETED, FakeHfbusd

BUILD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build"


class Client:
    def __init__(self, data):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(30)
        for attempt in range(200):  # a full backlog refuses for a moment
            try:
                self.socket.connect(os.path.join(data, "control.sock"))
                return
            except BlockingIOError:
                time.sleep(0.01)
        raise TimeoutError("control.sock takes no connection")

    def raw(self, message):
        self.socket.send(message)
        return json.loads(self.socket.recv(1 << 18))

    def ask(self, op, **members):
        return self.raw(json.dumps(dict(members, op=op)).encode())

    def close(self):
        self.socket.close()


class ControlTest(unittest.TestCase):
    def setUp(self):
        self.data = tempfile.mkdtemp(prefix="hfbus-control-")
        self.addCleanup(shutil.rmtree, self.data)
        self.process = None
        self.bus = None
        self.addCleanup(self.stop)

    def start(self):
        self.process = subprocess.Popen([os.path.join(BUILD, "hfbus-control"), "--data",
                                         self.data], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.assertTrue(line.startswith("hfbus-control ready: data="), line)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.communicate(timeout=20)
            self.assertEqual(self.process.returncode, 0)
        if self.process is not None:
            self.process.stdout.close()
            self.process.stderr.close()
        self.process = None
        if self.bus is not None:
            self.bus.stop()

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def client(self):
        client = Client(self.data)
        self.addCleanup(client.close)
        return client

    def settled(self, client, within=15):
        end = time.monotonic() + within
        while time.monotonic() < end:
            status = client.ask("status")
            if status["state"] == "settled" and status["pending"] == 0:
                return status
            time.sleep(0.05)
        self.fail(f"not settled: {status}")

    def both(self):
        self.bus = FakeHfbusd(self.data)
        self.start()
        client = self.client()
        self.settled(client)
        return client

    # Commands

    def test_create_list_describe_delete(self):
        client = self.both()
        answer = client.ask("topic.create", name="quotes", partitions=70, retention_bytes=5 << 30)
        self.assertTrue(answer["ok"], answer)
        self.assertEqual(answer["topic"]["version"], 1)
        self.assertEqual(self.bus.topics["quotes"]["retention_bytes"], 5 << 30)
        self.assertEqual(client.ask("topic.create", name="quotes")["code"], "EEXIST")
        [topic] = client.ask("topic.list")["topics"]
        self.assertEqual((topic["name"], topic["state"]), ("quotes", "ready"))
        page = client.ask("topic.describe", name="quotes")
        self.assertEqual(len(page["partitions"]), 64)
        first = page["partitions"][0]
        self.assertEqual(first["received"], {"position": 4096, "offset": 17})
        self.assertEqual((first["state"], first["kept_bytes"]), ("open", 4096))
        page = client.ask("topic.describe", name="quotes", first=page["next"])
        self.assertEqual([p["partition"] for p in page["partitions"]], list(range(64, 70)))
        self.assertNotIn("next", page)
        self.assertTrue(client.ask("topic.delete", name="quotes")["ok"])
        self.assertTrue(self.bus.topics["quotes"]["flags"] & DELETED)
        self.assertEqual(client.ask("topic.list")["topics"], [])
        self.assertEqual(client.ask("topic.describe", name="quotes")["code"], "ENOENT")
        # Made again it is another one, above its tombstone.
        uuid = self.bus.topics["quotes"]["uuid"]
        self.assertTrue(client.ask("topic.create", name="quotes")["ok"])
        self.assertEqual(self.bus.topics["quotes"]["version"], 3)
        self.assertNotEqual(self.bus.topics["quotes"]["uuid"], uuid)

    def test_a_refusal_leaves_no_trace(self):
        client = self.both()
        self.bus.refuse = (errno.ENOSPC, "the disk is full, see retention")
        answer = client.ask("topic.create", name="quotes")
        self.assertEqual(answer, {"ok": False, "code": "ENOSPC",
                                  "error": "the disk is full, see retention"})
        self.assertEqual(client.ask("topic.list")["topics"], [])
        self.bus.refuse = None
        self.assertTrue(client.ask("topic.create", name="quotes")["ok"])
        self.bus.refuse = (errno.EBUSY, "a feed writes it")
        self.assertEqual(client.ask("topic.delete", name="quotes")["code"], "EBUSY")
        self.bus.refuse = None
        self.kill()
        self.start()
        self.assertEqual(len(self.client().ask("topic.list")["topics"]), 1)

    def test_reads_go_on_and_changes_are_refused_without_hfbusd(self):
        client = self.both()
        self.assertTrue(client.ask("topic.create", name="quotes")["ok"])
        self.bus.stop()
        time.sleep(0.3)
        self.assertEqual(client.ask("topic.create", name="other")["code"], "ENOTCONN")
        self.assertEqual(client.ask("topic.delete", name="quotes")["code"], "ENOTCONN")
        answer = client.ask("topic.describe", name="quotes")
        self.assertEqual((answer["running"], answer["partitions"]), (False, []))
        self.assertEqual(len(client.ask("topic.list")["topics"]), 1)
        self.bus.start()
        self.settled(client)
        self.assertTrue(client.ask("topic.create", name="other")["ok"])

    def test_hfbusd_goes_away_before_it_answers(self):
        client = self.both()
        self.bus.hang = True
        client.socket.send(b'{"op":"topic.create","name":"quotes"}')
        time.sleep(0.4)
        self.bus.stop()
        answer = json.loads(client.socket.recv(65536))
        # It is in the store, and reaches hfbusd when that is back.
        self.assertEqual(answer["code"], "EINPROGRESS")
        self.bus.hang = False
        self.bus.start()
        self.settled(client)
        self.assertIn("quotes", self.bus.topics)
        self.assertEqual(client.ask("topic.create", name="quotes")["code"], "EEXIST")

    # Reconciling

    def test_topics_of_feeds_are_adopted(self):
        client = self.both()
        for i in range(23):
            self.bus.feed_topic(f"feed-{i:02}")
        self.assertEqual(client.ask("topic.create", name="feed-07")["code"], "EEXIST")
        topics = client.ask("topic.list")["topics"]
        self.assertEqual([t["name"] for t in topics], [f"feed-{i:02}" for i in range(23)])
        self.assertTrue(all(t["feed"] for t in topics))
        # They are ours now, also when hfbusd is away.
        self.bus.stop()
        self.kill()
        self.start()
        self.assertEqual(len(self.client().ask("topic.list")["topics"]), 23)

    def test_what_hfbusd_lost_is_brought_back(self):
        client = self.both()
        for name in "abcdefgh":
            self.assertTrue(client.ask("topic.create", name=name)["ok"])
        self.assertTrue(client.ask("topic.delete", name="c")["ok"])
        before = {n: t["uuid"] for n, t in self.bus.topics.items() if n != "c"}
        self.bus.stop()
        self.bus.topics = {}
        time.sleep(0.3)
        self.bus.start()
        self.settled(client)
        self.assertEqual({n: t["uuid"] for n, t in self.bus.topics.items()}, before)

    def test_a_store_that_is_gone_takes_over_what_hfbusd_has(self):
        client = self.both()
        self.assertTrue(client.ask("topic.create", name="quotes", retention_ns=7)["ok"])
        self.kill()
        for name in os.listdir(self.data):
            if name.startswith("control.db"):
                os.unlink(os.path.join(self.data, name))
        self.start()
        client = self.client()
        self.settled(client)
        [topic] = client.ask("topic.list")["topics"]
        self.assertEqual(topic["retention_ns"], 7)

    def test_killed_at_any_moment_both_agree_in_the_end(self):
        self.both()
        generator = random.Random(4)
        for _ in range(12):
            client = Client(self.data)
            for _ in range(generator.randrange(1, 6)):
                op = generator.choice(["topic.create", "topic.delete"])
                message = {"op": op, "name": generator.choice("abcd")}
                client.socket.send(json.dumps(message).encode())
            time.sleep(generator.random() * 0.05)
            self.kill()
            client.close()
            self.start()
        client = self.client()
        self.settled(client)
        ours = {t["name"]: t["version"] for t in client.ask("topic.list", internal=True)["topics"]}
        theirs = {n: t["version"] for n, t in self.bus.topics.items()
                  if not t["flags"] & DELETED}
        self.assertEqual(ours, theirs)

    def test_nonsense_from_hfbusd_costs_the_connection_only(self):
        client = self.both()
        for garbage in (b"", b"x", b"\0" * 28, os.urandom(5000), b"HBIP" + b"\xff" * 60):
            self.bus.garbage = garbage
            client.ask("topic.list")
            self.assertIsNone(self.bus.garbage)
            self.settled(client)
        self.assertTrue(client.ask("topic.create", name="quotes")["ok"])

    # Clients

    def test_hostile_messages_are_answered(self):
        client = self.both()
        generator = random.Random(5)
        for message in (b"x", b"[]", b"{}", b"\0", b"{" * 16000, os.urandom(16000), b"9" * 60000,
                        b'{"op":"topic.create","name":"../../etc"}',
                        b'{"op":"topic.create","name":"x","partitions":1e99}'):
            self.assertFalse(client.raw(message)["ok"], message[:40])
        good = bytearray(b'{"op":"topic.describe","name":"quotes","first":0}')
        for _ in range(500):
            bad = bytearray(good)
            for _ in range(generator.randrange(1, 4)):
                bad[generator.randrange(len(bad))] = generator.randrange(256)
            self.assertFalse(client.raw(bytes(bad))["ok"])
        self.assertTrue(client.ask("status")["ok"])

    def test_slow_and_many_clients_hold_up_nobody(self):
        client = self.both()
        for i in range(60):
            self.assertTrue(client.ask("topic.create", name=f"t{i:02}" + "x" * 150)["ok"])
        slow = []
        for _ in range(40):     # ask and ask, and never read
            one = Client(self.data)
            one.socket.setblocking(False)
            try:
                for _ in range(1000):
                    one.socket.send(b'{"op":"topic.list"}')
            except BlockingIOError:
                pass
            slow.append(one)
        began = time.monotonic()
        self.assertTrue(client.ask("topic.create", name="fast")["ok"])
        self.assertLess(time.monotonic() - began, 5)
        idle = []
        for _ in range(400):    # more than there are places
            one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            one.connect(os.path.join(self.data, "control.sock"))
            idle.append(one)
        other = self.client()
        self.assertTrue(other.ask("topic.delete", name="fast")["ok"])
        for one in idle + [s.socket for s in slow]:
            one.close()

    def test_one_is_enough(self):
        self.both()
        second = subprocess.run([os.path.join(BUILD, "hfbus-control"), "--data", self.data],
                                capture_output=True, text=True, timeout=20)
        self.assertEqual(second.returncode, 1)
        self.assertIn("another hfbus-control", second.stderr)
        self.assertTrue(self.client().ask("status")["ok"])

    def test_the_command(self):
        self.both()

        def hfbus(*arguments, code=0):
            done = subprocess.run([os.path.join(BUILD, "hfbus"), "topic", *arguments, "--data",
                                   self.data], capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, code, done.stderr)
            return done.stdout if code == 0 else done.stderr

        hfbus("create", "quotes", "--partitions", "130", "--retention-bytes", "1G",
              "--retention-time", "7d", "--commit", "received")
        self.assertEqual(self.bus.topics["quotes"]["retention_ns"], 7 * 86400 * 10**9)
        self.assertEqual(self.bus.topics["quotes"]["retention_bytes"], 1 << 30)
        self.assertEqual(self.bus.topics["quotes"]["commit"], 0)
        self.assertRegex(hfbus("list"), r"quotes +130 +received +1G,7d +ready")
        self.assertEqual(len(json.loads(hfbus("describe", "quotes", "--json"))["partitions"]),
                         130)
        self.assertIn("1G,7d", hfbus("describe", "quotes"))
        self.assertIn("needs a mirror", hfbus("create", "m", "--commit", "mirrored", code=1))
        self.assertIn("exists already", hfbus("create", "quotes", code=1))
        hfbus("delete", "quotes")
        self.assertIn("does not exist", hfbus("describe", "quotes", code=1))
        for i in range(120):
            self.bus.feed_topic(f"f{i:03}")
        self.assertEqual(len(json.loads(hfbus("list", "--json"))["topics"]), 120)
        self.stop()
        self.assertIn("hfbus up", hfbus("list", code=1))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    unittest.main(verbosity=2)
