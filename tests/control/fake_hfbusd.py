# SPDX-License-Identifier: Apache-2.0
"""A stand-in for hfbusd's unix socket (include/hfbus/ipc.h): topics, positions, refusals.

It lets the tests do to hfbus-control what a real hfbusd does rarely: refuse, hang, go away in
the middle, send nonsense.
"""
import array
import errno
import os
import socket
import struct
import threading

HEAD = struct.Struct("<IHHHHIII")
TOPIC = struct.Struct("<256s16sQQIIQQQQQIIIIQ24x")
WELCOME = struct.Struct("<QIIQQQ")
NODE = struct.Struct("<QIIQIIHHI4x")
MAGIC = 0x50494248
HELLO, GET, LIST, PUT, NODE_GET = 1, 2, 3, 4, 10
DELETED, BY_FEED = 1, 2
FIELDS = ("name uuid version expected_version partitions commit retention_bytes retention_ns "
          "segment_bytes ring_bytes created_ns flags first_handle cleanup reserved0 "
          "tombstone_ns").split()


def unpack_topic(body):
    topic = dict(zip(FIELDS, TOPIC.unpack_from(body)))
    topic["name"] = topic["name"].split(b"\0")[0].decode()
    return topic


def pack_topic(topic):
    values = dict(topic, name=topic["name"].encode())
    return TOPIC.pack(*(values[f] for f in FIELDS))


class FakeHfbusd:
    PAGE = 5

    def __init__(self, data):
        self.path = os.path.join(data, "hfbusd.sock")
        self.topics = {}
        self.refuse = None          # (errno, sentence) of the next puts
        self.hang = False           # read requests, answer none
        self.puts = 0
        self.garbage = None         # bytes sent in place of the next answer
        self.lock = threading.Lock()
        self.listener = None
        self.clients = []
        self.start()

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        if self.listener is None:
            return
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.listener = None
        for client in self.clients:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.clients = []

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.clients.append(client)
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            while True:
                try:
                    message = client.recv(70000)
                except OSError:
                    return
                if not message:
                    return
                magic, version, kind, _, _, size, ident, _ = HEAD.unpack_from(message)
                assert (magic, version, size) == (MAGIC, 1, len(message)), message[:32]
                if self.hang:
                    continue
                with self.lock:
                    error, body, fds = self.answer(kind, message[HEAD.size:])
                head = HEAD.pack(MAGIC, 1, kind, 1, 0, HEAD.size + len(body), ident, error)
                reply = head + body
                if self.garbage is not None:
                    reply, self.garbage = self.garbage, None
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                try:
                    client.sendmsg([reply], rights if fds else [])
                except OSError:
                    return
                for fd in fds:
                    os.close(fd)

    def answer(self, kind, body):
        if kind == HELLO:
            fd = os.memfd_create("positions")
            os.ftruncate(fd, 1024 * 64)
            # Handle 3: in use, received at 4096, offset 17.
            os.pwrite(fd, struct.pack("<QQ", 4096, 17), 3 * 1024 + 64)
            os.pwrite(fd, struct.pack("<IIII", 7, 0, 1, 1 << 20), 3 * 1024 + 7 * 64)
            os.pwrite(fd, struct.pack("<I", 1), 3 * 1024 + 8 * 64)
            return 0, WELCOME.pack(9, os.getpid(), 2, 0, 1024 * 64, 1), [fd]
        if kind == NODE_GET:
            return 0, NODE.pack(9, os.getpid(), 2, 0, 0, 0, 7400, 0, 0), []
        if kind == LIST:
            after = body.split(b"\0")[0].decode()
            names = sorted(n for n in self.topics if n > after)
            page = [pack_topic(self.topics[n]) for n in names[:self.PAGE]]
            more = len(names) > self.PAGE
            return 0, struct.pack("<II", len(page), more) + b"".join(page), []
        if kind == GET:
            name = body.split(b"\0")[0].decode()
            first = struct.unpack_from("<I", body, 256)[0]
            topic = self.topics.get(name)
            if topic is None or topic["flags"] & DELETED:
                return errno.ENOENT, b"no such topic", []
            parts = [struct.pack("<IHH", 3 + i, i % 2, 7400 + i % 2)
                     for i in range(first, topic["partitions"])][:100]
            return 0, (pack_topic(topic) + struct.pack("<II", first, len(parts)) +
                       b"".join(parts)), []
        if kind == PUT:
            return self.put(unpack_topic(body))
        return errno.EOPNOTSUPP, b"what?", []

    def put(self, topic):
        self.puts += 1
        if self.refuse is not None:
            return self.refuse[0], self.refuse[1].encode(), []
        have = self.topics.get(topic["name"], {"version": 0})["version"]
        if have != topic["expected_version"]:
            return errno.ESTALE, b"another version", []
        topic["expected_version"] = 0
        self.topics[topic["name"]] = topic
        return 0, pack_topic(topic), []

    def feed_topic(self, name, **more):
        topic = dict(name=name, uuid=os.urandom(16), version=1, expected_version=0, partitions=1,
                     commit=1, retention_bytes=0, retention_ns=0, segment_bytes=0, ring_bytes=0,
                     created_ns=5, flags=BY_FEED, first_handle=0, cleanup=0,
                     reserved0=0, tombstone_ns=0)
        topic.update(more)
        with self.lock:
            self.topics[name] = topic
