#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The HTTP port of hfbus-control, with a stand-in for hfbusd, and clients that mean no good.

Goal:   each path does what docs/openapi.yaml says; bad input gets a clear 4xx and does no harm;
        nobody can keep others from being served.
Method: the real program on a port of its own; requests by http.client, lies by plain sockets.

usage: test_http.py BUILD_DIR
"""
import http.client
import json
import os
import random
import re
import socket
import stat
import subprocess
import sys
import tempfile
import shutil
import threading
import time
import unittest

import yaml

from fake_hfbusd import FakeHfbusd

BUILD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build"
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(BUILD, "hfbus-control")
BODY_MAX = 12288


class HttpTest(unittest.TestCase):
    def setUp(self):
        self.data = tempfile.mkdtemp(prefix="hfbus-http-")
        self.addCleanup(shutil.rmtree, self.data)
        self.process = self.bus = None
        self.addCleanup(self.stop)

    def start(self, *options, bus=True):
        if bus and self.bus is None:
            self.bus = FakeHfbusd(self.data)
        self.process = subprocess.Popen(
            [PROGRAM, "--data", self.data, "--http", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("ready", self.process.stdout.readline())
        line = self.process.stdout.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", line)[1])
        with open(os.path.join(self.data, "http.token"), encoding="ascii") as f:
            self.token = f.read().strip()
        if bus:
            self.wait(self.settled)

    def settled(self):
        status = self.get("/api/v1/status")[1]
        return status["state"] == "settled" and status["pending"] == 0

    def topics(self):
        """Those that are not the bus's own."""
        topics = self.get("/api/v1/topics")[1]["topics"]
        return [t for t in topics if not t["name"].startswith("__")]

    def stop(self):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.terminate()
            _, said = self.process.communicate(timeout=20)
            self.assertEqual(self.process.returncode, 0, said)
            self.assertNotIn("Sanitizer", said)
        self.process = None
        if self.bus is not None:
            self.bus.stop()
        self.bus = None

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "waited in vain")
            time.sleep(0.02)

    def ask(self, method, path, body=None, token=None, headers=None):
        """(status, answer, headers); an answer that is not JSON stays text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        try:
            return response.status, json.loads(text), response.headers
        except ValueError:
            return response.status, text, response.headers

    def get(self, path):
        return self.ask("GET", path)

    def change(self, method, path, body=None):
        return self.ask(method, path, body, self.token)

    def refused(self, status, code, answer):
        self.assertEqual(answer[0], status, answer)
        self.assertEqual(answer[1]["error"]["code"], code, answer)
        self.assertGreater(len(answer[1]["error"]["message"]), 5)

    def metric(self, name):
        """Sum of all samples of a metric."""
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics")[1].splitlines()
                   if re.match(re.escape(name) + r"[{ ]", line))

    def raw(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.addCleanup(s.close)
        return s

    # What it is for

    def test_topics_from_birth_to_death(self):
        self.start()
        status, answer, headers = self.change("POST", "/api/v1/topics",
                                              {"name": "quotes", "partitions": 70})
        self.assertEqual((status, answer["topic"]["name"]), (201, "quotes"))
        self.assertEqual(headers["Content-Type"], "application/json")
        self.refused(409, "EEXIST", self.change("POST", "/api/v1/topics", {"name": "quotes"}))
        [topic] = self.topics()
        self.assertEqual((topic["name"], topic["state"]), ("quotes", "ready"))
        self.assertEqual(self.get("/api/v1/topics?after=quotes")[1]["topics"], [])
        page = self.get("/api/v1/topics/quotes")[1]
        self.assertEqual((len(page["partitions"]), page["next"]), (64, 64))
        page = self.get(f"/api/v1/topics/quotes?first={page['next']}")[1]
        self.assertEqual(len(page["partitions"]), 6)
        status, answer, _ = self.change("PATCH", "/api/v1/topics/quotes", {"retention_ns": 5})
        self.assertEqual((status, answer["topic"]["retention_ns"]), (200, 5))
        self.assertEqual(self.bus.topics["quotes"]["retention_ns"], 5)
        self.assertEqual(self.change("DELETE", "/api/v1/topics/quotes")[0], 200)
        self.refused(404, "ENOENT", self.get("/api/v1/topics/quotes"))
        self.refused(404, "ENOENT", self.change("DELETE", "/api/v1/topics/quotes"))
        self.assertEqual(self.get("/api/v1/status")[1]["http"], f"127.0.0.1:{self.port}")

    def test_health_and_readiness_differ(self):
        self.start(bus=False)
        self.assertEqual(self.get("/healthz")[:2], (200, {"status": "ok"}))
        self.refused(503, "EAGAIN", self.get("/readyz"))
        self.assertEqual(self.metric("hfbus_up"), 0)
        self.refused(503, "ENOTCONN", self.change("POST", "/api/v1/topics", {"name": "a"}))
        self.bus = FakeHfbusd(self.data)
        self.wait(self.settled)
        # the stand-in has no log to read the groups' offsets from
        self.assertIn("groups", self.get("/readyz")[1]["error"]["message"])
        self.assertEqual(self.metric("hfbus_up"), 1)

    def test_hfbusds_refusal_is_told(self):
        self.start()
        self.bus.refuse = (28, "the disk is full, see retention")
        self.refused(507, "ENOSPC", self.change("POST", "/api/v1/topics", {"name": "a"}))

    def test_a_request_is_ended_when_the_program_stops(self):
        self.start()
        self.bus.hang = True
        s = self.raw()
        s.sendall(b"GET /api/v1/topics/none HTTP/1.1\r\nHost: x\r\n\r\n")
        self.wait(lambda: self.metric("hfbus_control_http_calls") == 1)
        self.process.terminate()
        self.process.wait(20)
        answer = s.recv(65536)
        self.assertTrue(answer == b"" or b" 503 " in answer, answer)

    @staticmethod
    def resolved(document, item):
        while "$ref" in item:
            found = document
            for part in item["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            item = found
        return item

    def test_openapi_has_the_paths_that_are_served(self):
        self.start()
        served = {(p["method"], p["path"], p["token"]) for p in self.get("/api/v1")[1]["paths"]}
        with open(os.path.join(SOURCE, "docs", "openapi.yaml"), encoding="utf-8") as f:
            document = yaml.safe_load(f)
        self.assertTrue(document["openapi"].startswith("3."))
        described = set()
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if method == "parameters":
                    continue
                described.add((method.upper(), path, "security" in operation))
                parameters = [self.resolved(document, p) for p in
                              operation.get("parameters", []) + methods.get("parameters", [])]
                named = {p["name"] for p in parameters if p["in"] == "path"}
                self.assertEqual(named, set(re.findall(r"{(\w+)}", path)), path)
                # each parameter of the query is taken: at worst its value is refused, not its name
                for p in parameters:
                    if p["in"] == "query":
                        status, answer, _ = self.ask(
                            method.upper(), path.replace("{", "").replace("}", "") +
                            f"?{p['name']}=0&zz=1", token=self.token)
                        self.assertIn("zz", str(answer), (path, p))
        self.assertEqual(described, served)

    # Tokens

    def test_changes_need_the_token(self):
        self.start()
        mode = os.stat(os.path.join(self.data, "http.token")).st_mode
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        for token in (None, "x", self.token[:-1], self.token + "0", "0" * 64):
            for method, path in (("POST", "/api/v1/topics"), ("DELETE", "/api/v1/topics/a"),
                                 ("PATCH", "/api/v1/topics/a"), ("POST", "/api/v1/topics/a/trim")):
                answer = self.ask(method, path, {"name": "a"}, token)
                self.refused(401, "EACCES", answer)
                self.assertEqual(answer[2]["WWW-Authenticate"], "Bearer")
        self.refused(401, "EACCES", self.ask("POST", "/api/v1/topics", {"name": "a"},
                                             headers={"Authorization": f"Basic {self.token}"}))
        self.assertEqual(self.topics(), [])
        self.assertEqual(self.metric('hfbus_control_http_refused_total'), 21)

    def test_a_token_that_others_may_read_is_refused(self):
        path = os.path.join(self.data, "http.token")
        with open(path, "w", encoding="ascii") as f:
            f.write("0123456789abcdef\n")
        os.chmod(path, 0o644)
        done = subprocess.run([PROGRAM, "--data", self.data, "--http", "127.0.0.1:0"],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("chmod 600", done.stderr)

    # Ports

    def test_a_port_in_use(self):
        self.start()
        other = tempfile.mkdtemp(prefix="hfbus-http-")
        self.addCleanup(shutil.rmtree, other)
        asked = [PROGRAM, "--data", other, "--http", f"127.0.0.1:{self.port}"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "in use.*--http")
        config = os.path.join(other, "hfbus.yaml")
        with open(config, "w", encoding="ascii") as f:
            f.write(f"data: {other}\ncontrol:\n  http: 127.0.0.1:{self.port}\n")
        done = subprocess.run([PROGRAM, "--config", config], capture_output=True, text=True,
                              timeout=60)
        self.assertEqual(done.returncode, 1)
        for wrong in ("127.0.0.1", "here:80", ""):
            done = subprocess.run(asked[:-1] + [wrong], capture_output=True, text=True,
                                  timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn("--http", done.stderr)

    # Bad input

    def test_bad_input_to_every_path(self):
        self.start()
        puts = self.bus.puts
        paths = self.get("/api/v1")[1]["paths"]
        wrong = ["", "{", "[]", "7", '"x"', "null", "\xff", '{"name":7}', '{"name":null}',
                 '{"name":{}}', '{"name":[]}', '{"op":"status"}', '{"name":"a","name":"b"}',
                 '{"nobody":1}', '{"partitions":"many"}', '{"partitions":-1}',
                 '{"partitions":1e99}', '{"name":"' + "x" * 5000 + '"}',
                 "[" * 6000, '{"a":' * 2000, "\0" * 100, '{"name":"\\u0000"}']
        for entry in paths:
            path = re.sub(r"{\w+}", "none", entry["path"])
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"):
                allowed = {p["method"] for p in paths if p["path"] == entry["path"]}
                if method not in allowed:
                    answer = self.change(method, path)
                    self.refused(405, "EOPNOTSUPP", answer)
                    self.assertEqual(set(answer[2]["Allow"].split(", ")), allowed)
            for body in wrong:
                if body == "" and "group" in path and entry["method"] != "POST":
                    continue  # that is right, and waits for a log which the stand-in has not
                status, answer, _ = self.change(entry["method"], path, body.encode("latin-1"))
                if entry["token"]:
                    self.assertIn(status, range(400, 500), (entry, body[:40], answer))
                    self.assertTrue(answer["error"]["message"], answer)
                elif entry["path"] != "/readyz":
                    self.assertNotEqual(status // 100, 5, (entry, body[:40], answer))
            if entry["path"].endswith("/reset"):
                for body in ({"topic": "a", "to": "nowhere"}, {"topic": 1, "to": "latest"},
                             {"topic": "a", "to": "offset", "value": "x"},
                             {"topic": "a", "to": "latest", "partitions": 7}):
                    self.refused(400, "EINVAL", self.change("POST", path, body))
            for query in ("x=1", "x", "first=a", "after=%", "after=%00", "&&", "=", "first=1&first=2"):
                status, answer, _ = self.change(entry["method"], f"{path}?{query}")
                self.assertEqual(status, 400, (entry, query, answer))
                self.assertTrue(answer["error"]["message"], answer)
        for path in ("/", "/api", "/api/v2/topics", "/api/v1/topics/", "/api/v1/topics/a/b/c/d",
                     "/../etc/passwd", "//", "/api/v1/%74opics", "/metrics/", "*"):
            self.refused(404, "ENOENT", self.get(path))
        for name in ("%00", "a%00b", "%", "%zz", "%ff%fe", "a" * 600):
            self.refused(400, "EINVAL", self.get(f"/api/v1/topics/{name}"))
        for name in ("..", "a%2fb", "a%20b", "%e4%b8%ad", "a" * 300):
            self.refused(400, "EINVAL", self.get(f"/api/v1/topics/{name}"))
        self.assertEqual(self.topics(), [])
        self.assertEqual(self.bus.puts, puts)

    def test_huge_heads_and_bodies(self):
        self.start()
        self.refused(413, "EMSGSIZE", self.change("POST", "/api/v1/topics", b"x" * (BODY_MAX + 1)))
        self.refused(413, "EMSGSIZE", self.change("POST", "/api/v1/topics", b"x" * 900000))
        self.refused(401, "EACCES", self.ask("POST", "/api/v1/topics", b"x" * 900000))
        self.refused(414, "ENAMETOOLONG", self.get("/api/v1/topics/" + "x" * 3000))
        # an announcement is enough
        s = self.raw()
        s.sendall(b"POST /api/v1/topics HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n")
        self.assertIn(b" 413 ", s.recv(65536))
        # a head that does not end is answered, or cut off
        for head in (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 70000,
                     b"GET /" + b"x" * 70000,
                     b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20000):
            s = self.raw()
            try:
                s.sendall(head)
                answer = s.recv(65536)
            except OSError:
                answer = b""
            self.assertTrue(answer == b"" or re.match(rb"HTTP/1.\d 4\d\d ", answer), answer[:99])
        # chunks without an end
        s = self.raw()
        try:
            s.sendall(b"POST /api/v1/topics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(1000):
                s.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            self.fail("four megabytes were taken")
        except OSError:
            pass
        self.assertEqual(self.get("/healthz")[0], 200)

    def test_noise_does_no_harm(self):
        self.start()
        generator = random.Random(11)
        good = (f"POST /api/v1/topics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n"
                "Content-Length: 14\r\n\r\n" + '{"name":"a%b"}').encode()
        for _ in range(300):
            noise = bytearray(good if generator.random() < 0.8 else generator.randbytes(200))
            for _ in range(generator.randrange(1, 6)):
                noise[generator.randrange(len(noise))] = generator.randrange(256)
            s = socket.create_connection(("127.0.0.1", self.port), timeout=0.05)
            try:
                s.sendall(noise)
                try:
                    answer = s.recv(65536)
                except TimeoutError:  # it waits for more: there is none
                    s.settimeout(60)
                    s.shutdown(socket.SHUT_WR)
                    answer = s.recv(65536)
            except OSError:
                answer = b""
            s.close()
            self.assertTrue(answer == b"" or re.match(rb"HTTP/1.\d (4\d\d|100|200|505) ", answer),
                            (bytes(noise), answer))
        self.assertEqual(self.get("/healthz")[0], 200)

    # Slow and many

    def test_slow_clients_are_cut_off_and_hold_up_nobody(self):
        self.start("--http-timeout", "2")
        starts = [b"", b"GET", b"GET /metrics HTTP/1.1\r\nHost: x\r\n",
                  b"POST /api/v1/topics HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
                  b"POST /api/v1/topics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1"]
        slow = []
        for start in starts:
            s = self.raw()
            s.sendall(start)
            slow.append(s)
        # one that sends a byte now and then is slow as well
        drip = self.raw()
        drip.sendall(b"GET /healthz HTTP/1.1\r\n")
        end = time.monotonic() + 60
        cut = False
        while not cut and time.monotonic() < end:
            self.assertEqual(self.get("/healthz")[0], 200)
            try:
                drip.sendall(b"x")
                drip.settimeout(0.2)
                cut = drip.recv(100) == b""
            except TimeoutError:
                pass
            except OSError:
                cut = True
        self.assertTrue(cut)
        for s in slow:
            try:
                self.assertEqual(s.recv(100), b"")
            except ConnectionResetError:
                pass
        self.assertGreater(self.metric("hfbus_control_http_closed_total"), 0)

    def test_who_does_not_take_the_answer_is_cut_off(self):
        self.start("--http-timeout", "1")
        for i in range(40):
            self.assertEqual(self.change("POST", "/api/v1/topics", {"name": f"t{i}"})[0], 201)
        s = socket.socket()
        self.addCleanup(s.close)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", self.port))
        s.settimeout(60)
        # more answers than all buffers on the way hold
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        try:
            for _ in range(5000):
                s.sendall(request)
        except OSError:
            pass
        self.wait(lambda: 'closed_total{reason="slow"} 1' in self.get("/metrics")[1])

    def test_a_thousand_connections(self):
        self.start()
        idle = [self.raw() for _ in range(1000)]
        request = b"GET /api/v1/topics HTTP/1.1\r\nHost: x\r\n\r\n"
        # others are served; those who have been idle longest make room
        for _ in range(50):
            self.assertEqual(self.get("/healthz")[0], 200)
        self.assertLessEqual(self.metric("hfbus_control_http_connections"), 1032)
        served = 0
        for s in idle:
            try:
                s.sendall(request)
            except OSError:
                pass
        for s in idle:
            try:
                answer = s.recv(65536)
            except OSError:
                answer = b""
            if answer:
                self.assertRegex(answer, rb"^HTTP/1.1 (200|503) ")
                served += 1
        self.assertGreater(served, 850)
        # a crowd at once, each with a request of its own
        results = []

        def visit():
            for _ in range(5):
                try:
                    results.append(self.get("/api/v1/status")[0])
                except (OSError, http.client.HTTPException):
                    results.append(0)
        threads = [threading.Thread(target=visit) for _ in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(set(results), {200})
        for s in idle:
            s.close()
        self.wait(lambda: self.metric("hfbus_control_http_connections") < 10)

    def test_more_requests_under_way_than_places(self):
        self.start()
        self.bus.hang = True
        waiting = [self.raw() for _ in range(70)]
        for i, s in enumerate(waiting):
            s.sendall(f"GET /api/v1/topics/none{i} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.wait(lambda: self.metric("hfbus_control_http_refused_total") == 6)
        self.assertEqual(self.metric("hfbus_control_http_calls"), 64)
        self.assertEqual(self.get("/healthz")[0], 200)
        for s in waiting[:32]:
            s.close()  # before their answer: nobody is hurt
        self.bus.stop()
        self.bus.hang = False
        answers = [s.recv(65536)[:12] for s in waiting[32:]]
        self.assertEqual(len([a for a in answers if a == b"HTTP/1.1 503"]), 6, answers)
        self.assertEqual(len([a for a in answers if a == b"HTTP/1.1 404"]), 32, answers)
        self.wait(lambda: self.metric("hfbus_control_http_calls") == 0)
        self.bus.start()


if __name__ == "__main__":
    unittest.main()
