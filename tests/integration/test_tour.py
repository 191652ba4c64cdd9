# SPDX-License-Identifier: Apache-2.0
"""
The README's tour, and hfbus top.

Goal:   the lines of the README work as printed; hfbus top shows what moves, on a terminal and for scripts.
Method: the first block of "Try it" in a shell, line by line, where /tmp, /run and the network are its own; hfbus top on
        a terminal of ours that changes its size, and its --json against what was published.
"""
import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import tempfile
import termios
import time

from hfbtest import Bus, Skip, main, program, wait_for

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ALONE = ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child']


def tour():
    with open(os.path.join(SOURCE, 'README.md'), encoding='utf-8') as f:
        return re.search(r'^## Try it\n\n```\n(.*?)```', f.read(), re.M | re.S)[1].splitlines()


def test_the_readme_as_printed():
    if shutil.which('curl') is None:
        raise Skip('no curl')
    if subprocess.run([*ALONE, 'true'], capture_output=True, check=False).returncode != 0:
        raise Skip('no namespaces of our own: not root')
    build = os.path.dirname(program('hfbus'))
    folder = tempfile.mkdtemp(prefix='tour-', dir=build)
    try:
        # what "make" would build is built
        os.symlink(build, os.path.join(folder, 'build'))
        with open(os.path.join(folder, 'Makefile'), 'w', encoding='ascii') as f:
            f.write('all:\n')
        # the build stays where it is, should that be below /tmp or /run
        here = shlex.quote(build)
        script = ['set -e -o pipefail', f'mount --bind {here} /mnt', 'mount -t tmpfs tour /tmp',
                  'mount -t tmpfs tour /run', f'mkdir -p {here}', f'mount --bind /mnt {here}',
                  f'cd {shlex.quote(folder)}', 'mount -t proc tour /proc', 'ip link set lo up',
                  'exec 2>&1']
        for line in tour():
            if re.search(r' &(\s*#.*)?$', line):
                script += [re.sub(r' &(\s*#.*)?$', ' >/tmp/up.log 2>&1 &', line),
                           'for i in $(seq 600); do grep -q "hfbus ready" /tmp/up.log && '
                           'grep -q "http://" /tmp/up.log && break; sleep 0.1; done',
                           'cat /tmp/up.log']
            else:
                script.append(line)
        script += ['kill %1', 'wait %1']
        # an environment without what would lead elsewhere
        env = {k: v for k, v in os.environ.items() if not k.startswith(('HFBUS', 'XDG_RUNTIME'))}
        done = subprocess.run([*ALONE, 'bash', '-c', '\n'.join(script)], cwd=folder, env=env,
                              capture_output=True, text=True, timeout=100)
        out = done.stdout
        assert done.returncode == 0, (out, done.stderr)
        assert 'hfbus ready: data=/tmp/bus' in out, out
        assert '\n600\n' in out, out
        assert re.search(r'\b400\b', out), out
        assert re.search(r'^hfbus_up 1$', out, re.M), out
        lag = [int(x) for x in re.findall(r'^hfbus_group_lag_events{.*topic="quotes".*} (\d+)$', out,
                                          re.M)]
        assert sum(lag) == 400, out
        assert 'quotes/1' in out, out
    finally:
        shutil.rmtree(folder)


def test_top_for_scripts():
    with Bus() as bus:
        bus.topic_create('quotes', '--partitions', '2')
        publisher = bus.spawn('publish', 'quotes', '--key', 'k', stdin=subprocess.PIPE)
        pipe = publisher.child.stdin
        pipe.write(b'x\n' * 1000)
        pipe.flush()
        top = bus.spawn('top', '--json')
        until = time.monotonic() + 60
        while top.running() and time.monotonic() < until:
            pipe.write(b'x\n' * 200)
            pipe.flush()
            time.sleep(0.02)
        assert top.wait() == 0
        shown = json.loads('\n'.join(top.out))
        pipe.close()
        publisher.wait()
        first = shown['partitions'][0]
        assert first['topic'] == 'quotes' and first['events_per_s'] > 0, shown
        assert shown['cores'][0]['events_per_s'] > 0
        assert 0 < shown['cores'][0]['work'] <= 1.5
        stages = {s['stage']: s for s in shown['stages']}
        assert 0 < stages['received_durable']['p50_ns'] <= stages['received_durable']['p99_ns']
        text = bus.hfbus('top', '--once').stdout
        for word in ('core', 'work', 'spin', 'partition', 'quotes/0', 'quotes/1'):
            assert word in text, text
        assert '\033' not in text
        assert bus.hfbus('top', '--interval', '0', check=False).returncode == 2
    with Bus(control=False) as bus:  # without hfbus-control
        assert json.loads(bus.hfbus('top', '--json').stdout)['groups'] is None


class Screen:
    """A terminal that hfbus top writes to."""

    def __init__(self, bus, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(program('hfbus'), ['hfbus', 'top', *args], bus.env)
        self.text = ''

    def size(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

    def read(self):
        """What came; None at the end."""
        if select.select([self.fd], [], [], 0.05)[0]:
            try:
                self.text += os.read(self.fd, 65536).decode('utf-8', 'replace')
            except OSError:
                return None
        return self.text

    def end(self):
        wait_for('hfbus top ends', lambda: self.read() is None)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_top_on_a_terminal():
    with Bus() as bus:
        bus.topic_create('quotes', '--partitions', '40')
        screen = Screen(bus)
        screen.size(20, 60)
        wait_for('a first screen', lambda: 'quotes/' in screen.read())
        assert screen.text.startswith('\033[?1049h')
        screen.size(60, 120)
        screen.text = ''
        wait_for('a higher one', lambda: len(re.findall(r'quotes/\d+', screen.read())) > 25)
        # each screen starts at the top; none is higher or wider than the terminal
        frames = screen.text.split('\033[H')[1:-1]
        for frame in frames:
            lines = re.sub(r'\033\[[?0-9]*[a-zA-Z]', '', frame).split('\r\n')
            assert len(lines) <= 60 and all(len(line) <= 120 for line in lines), frame
        os.write(screen.fd, b'q')
        assert screen.end() == 0
        assert '\033[?1049l' in screen.text


main(globals())
