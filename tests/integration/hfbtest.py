# SPDX-License-Identifier: Apache-2.0
"""
What integration tests share: a bus in a temporary folder, the commands, waiting.

    from hfbtest import Bus, main, skip, wait_for

    def test_round_trip():
        with Bus() as bus:
            bus.topic_create('t')
            bus.publish('t', ['a', 'b'])
            assert [e['value'] for e in bus.consume('t')] == ['a', 'b']

    main(globals())          # runs each test_*; exit status 77 = skipped

$HFBUS_BUILD names the build folder (default: build/ beside the sources). Programs
idle adaptively, so tests share a small machine. Everything started is stopped and
every folder removed at the end, also after a failure; $HFBUS_TEST_KEEP=1 keeps folders.
"""
import atexit
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('HFBUS_BUILD', os.path.join(SOURCE, 'build'))
# How long something may take on a busy machine before it is a failure.
PATIENCE = float(os.environ.get('HFBUS_TEST_PATIENCE', '60'))


# Process has a method called signal, which hides the module in its own definition.
INTERRUPT = signal.SIGINT


class Skip(Exception):
    pass


def skip(why):
    raise Skip(why)


def program(name):
    path = os.path.join(BUILD, name)
    if not os.access(path, os.X_OK):
        skip(f'{path} is not built')
    return path


def capture(name):
    """Path of a recorded file, or skip."""
    folder = os.environ.get('HFBUS_CAPTURES', os.path.join(SOURCE, '..', 'shared', 'captures'))
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        skip(f'{path} is not there')
    return path


def wait_for(what, check, timeout=None):
    """Until check() is true; its value. What comes of waiting in vain names `what`."""
    until = time.monotonic() + (timeout or PATIENCE)
    pause = 0.005
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f'waited in vain: {what}')
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


_children = []


def _end_all():
    for child in _children:
        if child.poll() is None:
            child.kill()
            child.wait()


atexit.register(_end_all)


class Process:
    """A program under test; what it prints is collected as it comes."""

    def __init__(self, argv, stdin=None, env=None, name=None):
        self.argv = [str(a) for a in argv]
        self.name = name or os.path.basename(self.argv[0])
        self.child = subprocess.Popen(self.argv, stdin=stdin or subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        _children.append(self.child)
        self.out, self.err = [], []
        self._threads = [threading.Thread(target=self._collect, args=(f, to), daemon=True)
                         for f, to in ((self.child.stdout, self.out), (self.child.stderr, self.err))]
        for t in self._threads:
            t.start()

    @staticmethod
    def _collect(f, to):
        for line in f:
            to.append(line.decode('utf-8', 'surrogateescape').rstrip('\n'))

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def line(self, pattern, timeout=None, where='out'):
        """Wait for a line that matches; the match."""
        lines = getattr(self, where)

        def find():
            for text in list(lines):
                m = re.search(pattern, text)
                if m:
                    return m
            if not self.running():
                for t in self._threads:
                    t.join(5)
                for text in lines:
                    m = re.search(pattern, text)
                    if m:
                        return m
                raise AssertionError(f'{self.name} ended with {self.child.returncode} before '
                                     f'{pattern!r}: {self.tail()}')
            return None
        return wait_for(f'{self.name} prints {pattern!r}', find, timeout)

    def signal(self, number):
        if self.running():
            self.child.send_signal(number)

    def wait(self, timeout=None):
        """Exit status; negative for a signal."""
        try:
            status = self.child.wait(timeout or PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f'{self.name} does not end: {self.tail()}') from None
        for t in self._threads:
            t.join(5)
        return status

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def stop(self, number=INTERRUPT):
        self.signal(number)
        return self.wait()

    def tail(self):
        return '\n'.join(['--- out'] + self.out[-15:] + ['--- err'] + self.err[-25:])


def run(argv, stdin=None, timeout=None, check=True, env=None):
    """Run to the end; CompletedProcess with text. check: True = status 0 expected."""
    r = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True,
                       timeout=timeout or PATIENCE, env=env)
    r.stdout = r.stdout.decode('utf-8', 'surrogateescape')
    r.stderr = r.stderr.decode('utf-8', 'surrogateescape')
    if check and r.returncode != 0:
        raise AssertionError(f'{" ".join(map(str, argv))} ended with {r.returncode}:\n'
                             f'{r.stdout[-2000:]}\n{r.stderr[-3000:]}')
    return r


class Bus:
    """
    A running bus: `hfbus up` in a folder of its own (control=False: hfbusd alone).

    start() and the with statement wait for the ready line; stop() is a clean one,
    kill() is SIGKILL to hfbusd alone or to all that `up` started.
    """

    def __init__(self, folder=None, args=(), control=True, keep_folder=False, env=None):
        self.own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix='hfbus-test-',
                                                 dir=os.environ.get('HFBUS_TEST_DIR'))
        self.data = os.path.join(self.folder, 'data')
        self.args = list(args)
        self.control = control
        self.keep_folder = keep_folder
        self.process = None
        # a runtime folder of our own: tests neither find nor replace the user's bus
        self.env = dict(os.environ, XDG_RUNTIME_DIR=os.path.join(self.folder, 'run'),
                        HFBUS_DATA=self.data)
        self.env.update(env or {})
        os.makedirs(self.env['XDG_RUNTIME_DIR'], exist_ok=True)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        if self.process is not None and self.process.running():
            if kind is not None:
                print(self.process.tail(), file=sys.stderr)
                self.kill()
            else:
                self.stop()
        elif self.process is not None and kind is not None:
            print(self.process.tail(), file=sys.stderr)
        if self.own_folder and not self.keep_folder and 'HFBUS_TEST_KEEP' not in os.environ:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, extra=()):
        if self.control:
            argv = [program('hfbus'), 'up', '--data', self.data, '--idle', 'adaptive']
            program('hfbusd')
            program('hfbus-control')
        else:
            argv = [program('hfbusd'), '--data', self.data, '--idle', 'adaptive']
        self.process = Process(argv + self.args + list(extra), env=self.env, name='bus')
        self.process.line(r'(?i)\bready\b')
        return self.process

    def hfbusd_pid(self):
        if not self.control:
            return self.process.pid
        pid = self.process.pid
        with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
            for child in f.read().split():
                with contextlib.suppress(OSError):
                    with open(f'/proc/{child}/comm', encoding='ascii') as comm:
                        if comm.read().strip() == 'hfbusd':
                            return int(child)
        raise AssertionError('hfbusd is not running')

    def stop(self):
        """Clean; raises when it was not."""
        status = self.process.stop(signal.SIGINT)
        if status != 0:
            raise AssertionError(f'the bus ended with {status}: {self.process.tail()}')

    def kill(self):
        """SIGKILL to hfbusd, and to what `up` started around it."""
        pids = [self.process.pid]
        with contextlib.suppress(OSError):
            pid = self.process.pid
            with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
                pids = [int(p) for p in f.read().split()] + pids
        for p in pids:
            with contextlib.suppress(OSError):
                os.kill(p, signal.SIGKILL)
        self.process.wait()
        # a child whose parent was killed is reaped by init: wait until it is gone
        for p in pids[:-1]:
            wait_for(f'{p} is gone', lambda p=p: not _alive(p))

    def restart(self, kill=False):
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    # commands ---------------------------------------------------------------

    def hfbus(self, *args, stdin=None, check=True, timeout=None):
        if isinstance(stdin, str):
            stdin = stdin.encode('utf-8', 'surrogateescape')
        return run([program('hfbus'), *args], stdin=stdin, check=check, timeout=timeout, env=self.env)

    def spawn(self, *args, stdin=None):
        return Process([program('hfbus'), *args], stdin=stdin, env=self.env, name=f'hfbus {args[0]}')

    def topic_create(self, name, *args):
        r = self.hfbus('topic', 'create', name, *args)
        # the catalogue of hfbusd has it a moment later
        wait_for(f'topic {name} is served', lambda: self.hfbus(
            'consume', name, '--from', 'earliest', '--until-end', '--count', '1', '--quiet',
            check=False).returncode == 0)
        return r

    def publish(self, topic, lines, *args, check=True):
        text = ''.join(f'{line}\n' for line in lines)
        return self.hfbus('publish', topic, *args, stdin=text, check=check)

    def consume(self, topic, *args, until_end=True):
        """Events (and gaps and marks) as a list of dicts."""
        more = ['--from', 'earliest'] if '--from' not in args else []
        more += ['--until-end'] if until_end else []
        r = self.hfbus('consume', topic, '--format', 'json', *more, *args)
        return [json.loads(line) for line in r.stdout.splitlines()]

    def values(self, topic, *args):
        return [e['value'] for e in self.consume(topic, *args) if 'value' in e]

    def stat(self):
        return json.loads(self.hfbus('stat', '--json').stdout)

    def counter(self, name, **labels):
        """Sum of a counter over what matches the labels."""
        return sum(c['value'] for c in self.stat()['counters'] if c['name'] == name and
                   all(c['labels'].get(k) == str(v) for k, v in labels.items()))


def _alive(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii') as f:
            return f.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except OSError:
        return False


def main(names):
    """Run all test_* of a module (or those named on the command line)."""
    # a runner that has lost patience: end as after a failure, with everything put away
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = sys.argv[1:]
    tests = [(n, f) for n, f in names.items() if n.startswith('test_') and callable(f) and
             (not chosen or n in chosen)]
    failed = skipped = 0
    for name, test in tests:
        began = time.monotonic()
        try:
            test()
            result = 'ok'
        except Skip as s:
            skipped += 1
            result = f'skipped: {s}'
        except BaseException as e:  # noqa: an interrupt is passed on, all else said
            if isinstance(e, (KeyboardInterrupt, SystemExit)):
                raise
            failed += 1
            traceback.print_exc()
            result = 'FAILED'
        print(f'{name}: {result} ({time.monotonic() - began:.1f} s)', flush=True)
    if failed:
        sys.exit(1)
    if tests and skipped == len(tests):
        sys.exit(77)
    sys.exit(0)
