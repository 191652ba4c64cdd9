# SPDX-License-Identifier: Apache-2.0
"""
A live feed: multicast from a kernel's sockets over a veth.

Goal:   the bus tells the network what it listens to, follows two lines as they come,
        and a restart of the sequence does what the feed's setting says.
Method: reports are taken from the wire and checked here; messages are made here.
"""
import socket
import struct
import time

from hfbnet import BUS_IP, CLIENT_IP, Net, NetBus
from hfbtest import main, wait_for

A, B, PORT = '239.192.7.1', '239.192.7.2', 26477


def internet_sum(data):
    if len(data) % 2:
        data += b'\0'
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def feed(**more):
    settings = ''.join(f',{k.replace("_", "-")}={v}' for k, v in more.items())
    return f'name=live,framing=moldudp64,group={A}+{B},port={PORT},topic=live{settings}'


def packet(first, values, session=b'LIVE      '):
    return struct.pack('>10sQH', session, first, len(values)) + b''.join(
        struct.pack('>H', len(v)) + v for v in values)


def sender(net):
    s = net.socket()
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(CLIENT_IP))
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
    return lambda group, *args, **more: s.sendto(packet(*args, **more), (group, PORT))


def sniffer(net):
    s = net.inside(net.client_ns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                                        socket.htons(0x0003)))
    s.bind((net.client_if, 0x0003))
    s.settimeout(0.2)
    return s


def reports(s, seconds, enough):
    """(type, group, destination) of the bus's IGMP reports until enough(found)."""
    found = []
    until = time.monotonic() + seconds
    while time.monotonic() < until and not enough(found):
        try:
            frame = s.recv(2048)
        except TimeoutError:
            continue
        if frame[12:14] != b'\x08\x00' or frame[23] != 2 or \
                frame[26:30] != socket.inet_aton(BUS_IP):
            continue
        header = (frame[14] & 15) * 4
        size = struct.unpack_from('>H', frame, 16)[0]
        ip, igmp = frame[14:14 + header], frame[14 + header:14 + size]
        to = socket.inet_ntoa(ip[16:20])
        assert internet_sum(ip) == 0xffff and internet_sum(igmp) == 0xffff
        assert ip[8] == 1, 'a report must not leave the link'
        assert ip[20:24] == b'\x94\x04\x00\x00', 'router alert'
        assert frame[:3] == b'\x01\x00\x5e' and frame[3:6] == bytes([ip[17] & 127]) + ip[18:20]
        group = igmp[4:8] if igmp[0] == 0x16 else igmp[12:16]
        found.append((igmp[0], socket.inet_ntoa(group), to))
    return found


def test_membership_is_reported():
    with Net() as net:
        listen = sniffer(net)
        with NetBus(net, args=['--feed', feed()]) as bus:
            wanted = {(0x16, A, A), (0x16, B, B), (0x22, A, '224.0.0.22'), (0x22, B, '224.0.0.22')}
            found = reports(listen, 20, lambda f: wanted <= set(f))
            assert wanted <= set(found), found
            # the rest of what is said at start, then silence
            reports(listen, 13, lambda f: False)
            query = struct.pack('>BBH4s', 0x11, 10, 0, b'\0' * 4)
            query = query[:2] + struct.pack('>H', 0xffff - internet_sum(query)) + query[4:]
            ip = struct.pack('>BBHHHBBH4s4s4s', 0x46, 0, 32, 0, 0, 1, 2, 0,
                             socket.inet_aton(CLIENT_IP), socket.inet_aton('224.0.0.1'),
                             b'\x94\x04\0\0')
            ip = ip[:10] + struct.pack('>H', 0xffff - internet_sum(ip)) + ip[12:]
            listen.send(b'\x01\x00\x5e\0\0\x01' + b'\x02\0\0\0\0\x09' + b'\x08\0' + ip + query)
            found = reports(listen, 10, lambda f: len(f) >= 2)
            assert {(0x16, A, A), (0x16, B, B)} == set(found), found
            assert bus.process.running()
        listen.close()


def test_two_live_lines_and_a_gap():
    with Net() as net, NetBus(net, args=['--feed', feed(hold_us=300000)]) as bus:
        wire = sender(net)
        sent = 0

        def send(group, *args):
            nonlocal sent
            wire(group, *args)
            sent += 1
            if sent % 100 == 0:		# the kernel's ring for the port is small
                wait_for('the port keeps up',
                         lambda: bus.counter('rx_packets_total') >= sent)
        for q in range(1, 1000, 2):
            values = [b'%d' % q, b'%d' % (q + 1)]
            if q % 99 != 0 and q != 501:
                send(A, q, values)
            if q % 77 != 0 and q != 501:
                send(B, q, values)
        send(A, 1001, [])
        lost = {501, 502, 693, 694}	# 693 is the one multiple of both 99 and 77
        wait_for('all is read', lambda: len(bus.consume('live')) == 1000 - len(lost) + 2)
        entries = bus.consume('live')
        gaps = {g['first'] + i for g in (e['gap'] for e in entries if 'gap' in e)
                for i in range(g['count'])}
        events = [e for e in entries if 'gap' not in e]
        assert gaps == lost, (gaps, lost)
        assert [int(e['value']) for e in events] == [q for q in range(1, 1001) if q not in lost]
        assert all(e['feed']['sequence'] == int(e['value']) for e in events)
        wins = [bus.counter('feed_first_wins_total', feed='live', line=x) for x in 'AB']
        assert sum(wins) == 1000 - len(lost) and min(wins) > 0


def restarted(bus, send):
    for q in range(1, 200):
        send(A, q, [b'first'])
        send(B, q, [b'first'])
    wait_for('the first run is read', lambda: len(bus.consume('live')) == 199)
    time.sleep(0.2)
    for q in range(1, 51):
        send(A, q, [b'again'])
        send(B, q, [b'again'])
    time.sleep(1)
    return [e['value'] for e in bus.consume('live')]


def test_a_restart_of_the_sequence():
    for setting, again in (('new-session', 0), ('accept', 50)):
        with Net() as net, NetBus(net, args=['--feed', feed(restart=setting,
                                                           hold_events=64)]) as bus:
            values = restarted(bus, sender(net))
            assert values == ['first'] * 199 + ['again'] * again, values[190:]


if __name__ == '__main__':
    main(globals())
