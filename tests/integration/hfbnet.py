# SPDX-License-Identifier: Apache-2.0
"""
Two network namespaces joined by a veth pair: the bus's side, whose kernel has no
address (the bus is the host there), and the client's with a kernel's sockets.

    with Net() as net:
        with NetBus(net) as bus: ...
        sock = net.socket()             in the client's namespace
        net.hfbus(bus, 'publish', ...)  the command there, --udp added
"""
import ctypes
import fcntl
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time

from hfbtest import Bus, Process, program, run, skip

BUS_IP, CLIENT_IP, OTHER_IP, RELAY_IP = '10.9.0.2', '10.9.0.1', '10.9.0.3', '10.9.0.4'
UDP_PORT = 7400
CLONE_NEWNET = 0x40000000
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17


class Net:
    def __init__(self):
        tag = f'{os.getpid() % 100000}{random.randrange(100)}'
        self.bus_ns, self.client_ns = f'hfbb{tag}', f'hfbc{tag}'
        self.bus_if, self.client_if = f'hb{tag}', f'hc{tag}'

    def __enter__(self):
        if os.geteuid() != 0:
            skip('network namespaces need root')
        try:
            self.ip('netns', 'add', self.bus_ns)
            self.ip('netns', 'add', self.client_ns)
            self.ip('link', 'add', self.bus_if, 'netns', self.bus_ns, 'type', 'veth', 'peer', 'name',
                    self.client_if, 'netns', self.client_ns)
        except (AssertionError, OSError) as e:
            self.__exit__()
            skip(f'no network namespaces or veth here: {e}')
        try:
            self.ip('-n', self.bus_ns, 'link', 'set', self.bus_if, 'up')
            self.ip('-n', self.client_ns, 'link', 'set', 'lo', 'up')
            self.ip('-n', self.client_ns, 'link', 'set', self.client_if, 'up')
            for ip in (CLIENT_IP, OTHER_IP, RELAY_IP):
                self.ip('-n', self.client_ns, 'addr', 'add', f'{ip}/24', 'dev', self.client_if)
            # over veth the kernel leaves checksums to be made later, by nobody: it must make them
            self.inside(self.client_ns, self.checksums_on)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for ns in (self.bus_ns, self.client_ns):
            subprocess.run(['ip', 'netns', 'del', ns], capture_output=True, check=False)

    @staticmethod
    def ip(*args):
        return run(['ip', *args])

    def checksums_on(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            value = ctypes.create_string_buffer(struct.pack('II', ETHTOOL_STXCSUM, 0))
            request = struct.pack('16sP8x', self.client_if.encode(), ctypes.addressof(value))
            fcntl.ioctl(s, SIOCETHTOOL, request)

    @staticmethod
    def inside(ns, call):
        """call() with a thread that is in the namespace; sockets made there stay there."""
        result = []

        def enter():
            libc = ctypes.CDLL(None, use_errno=True)
            fd = os.open(f'/run/netns/{ns}', os.O_RDONLY)
            try:
                if libc.setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), 'setns')
                result.append((True, call()))
            except BaseException as e:
                result.append((False, e))
            finally:
                os.close(fd)
        t = threading.Thread(target=enter)
        t.start()
        t.join()
        good, value = result[0]
        if not good:
            raise value
        return value

    def socket(self, ip=CLIENT_IP, port=0):
        def make():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            s.bind((ip, port))
            return s
        return self.inside(self.client_ns, make)

    def hfbus_argv(self, *args, to=BUS_IP):
        return ['ip', 'netns', 'exec', self.client_ns, program('hfbus'), *args, '--udp',
                f'{to}:{UDP_PORT}']

    def hfbus(self, bus, *args, stdin=None, check=True, to=BUS_IP, timeout=None):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        return run(self.hfbus_argv(*args, to=to), stdin=stdin, check=check, env=bus.env,
                   timeout=timeout)

    def spawn(self, bus, *args, stdin=None, to=BUS_IP):
        return Process(self.hfbus_argv(*args, to=to), stdin=stdin, env=bus.env,
                       name=f'hfbus {args[0]} (udp)')


class NetBus(Bus):
    """A bus whose port is the veth of the bus's namespace."""

    def __init__(self, net, args=(), **more):
        port = f'net_af_packet0,iface={net.bus_if}@{BUS_IP}/24'
        super().__init__(args=['--port', port, *args], **more)
        self.net = net

    def start(self, extra=()):
        argv = ['ip', 'netns', 'exec', self.net.bus_ns]
        if self.control:
            program('hfbusd')
            program('hfbus-control')
            argv += [program('hfbus'), 'up']
        else:
            argv += [program('hfbusd')]
        argv += ['--data', self.data, '--idle', 'adaptive', *self.args, *extra]
        self.process = Process(argv, env=self.env, name='bus')
        self.process.line(r'(?i)\bready\b')
        return self.process


class Relay:
    """Loses, doubles and reorders datagrams between clients and the bus, both ways."""

    def __init__(self, net, loss=0.0, double=0.0, late=0.0, seed=1):
        self.loss, self.double, self.late = loss, double, late
        self.random = random.Random(seed)
        self.net = net
        self.front = net.socket(RELAY_IP, UDP_PORT)
        self.backs = {}			# client's address -> our socket towards the bus
        self.held = []			# (when, socket, data, address)
        self.lost = self.passed = 0
        self.stop = False
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()
        for s in (self.front, *self.backs.values()):
            s.close()

    def give(self, sock, data, address):
        if self.random.random() < self.loss:
            self.lost += 1
            return
        self.passed += 1
        times = 2 if self.random.random() < self.double else 1
        for _ in range(times):
            if self.random.random() < self.late:
                self.held.append((time.monotonic() + self.random.random() * 0.005, sock, data, address))
            else:
                sock.sendto(data, address)

    def work(self):
        clients = {}			# our socket's fd -> client's address
        while not self.stop:
            ready, _, _ = select.select([self.front, *self.backs.values()], [], [],
                                        0.001 if self.held else 0.05)
            for s in ready:
                for _ in range(64):
                    try:
                        data, address = s.recvfrom(2048, socket.MSG_DONTWAIT)
                    except (BlockingIOError, ConnectionRefusedError):
                        break
                    if s is self.front:
                        back = self.backs.get(address)
                        if back is None:
                            back = self.backs[address] = self.net.socket(CLIENT_IP)
                            clients[back.fileno()] = address
                        self.give(back, data, (BUS_IP, UDP_PORT))
                    else:
                        self.give(self.front, data, clients[s.fileno()])
            now = time.monotonic()
            for when, s, data, address in [h for h in self.held if h[0] <= now]:
                s.sendto(data, address)
            self.held = [h for h in self.held if h[0] > now]
