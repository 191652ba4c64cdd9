# SPDX-License-Identifier: Apache-2.0
"""
runner.py - the programs a bench needs: a bus of its own, and scenarios of hfbus-bench.

    runner = Runner(build, folder, cpus)
    raw = runner.limit(['memif-echo', '--size', '64'], seconds=3)
    with runner.bus() as bus:
        hfbus = bus.scenario(['echo', '--inflight', '1'], transport='memif', seconds=3)
        stages = bus.latency()
    runner.close()

Each bus has a data folder and sockets that are made for it and go with it. All children are
in sessions of their own, so that Ctrl-C reaches the suite alone, which then ends them in
order; they also end when the suite is killed.
"""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

BUS_IP = '10.9.0.2'
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """One sentence on what did not work."""


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def tail(text, lines=3):
    return ' / '.join(text.strip().splitlines()[-lines:])


def reason(text):
    """Why a program failed, of what it said on stderr: usage follows the reason."""
    lines = text.strip().splitlines()
    return next((line for line in lines if line.startswith('hfbus')), None) or tail(text)


class Runner:
    def __init__(self, build, folder, bus_cpu=1, our_cpu=0, say=lambda text: None):
        self.build = build
        self.bus_cpu, self.our_cpu = bus_cpu, our_cpu
        self.say = say
        self.children = []
        self.warnings = []
        os.makedirs(folder, exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix='run-', dir=folder)
        # paths of sockets are short
        self.sockets = tempfile.mkdtemp(prefix='hfbus-bench-')
        self.number = 0
        self.doing = 'limits'  # for warnings

    def program(self, name):
        path = os.path.join(self.build, name)
        if not os.access(path, os.X_OK):
            raise Failed(f'{path} is not built: run make first')
        return path

    def spawn(self, argv, **more):
        more.setdefault('stdin', subprocess.DEVNULL)
        child = subprocess.Popen([str(a) for a in argv], start_new_session=True,
                                 preexec_fn=die_with_parent, text=True, **more)
        self.children.append(child)
        return child

    def end(self, child, number=signal.SIGTERM, patience=60):
        """Exit status; negative for a signal."""
        if child.poll() is None:
            child.send_signal(number)
        try:
            status = child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
        if child in self.children:
            self.children.remove(child)
        return status

    def close(self):
        """End what still runs, remove what was made. Twice is fine."""
        for child in list(reversed(self.children)):
            self.end(child, patience=20)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def command(self, argv, patience, env=None):
        """Run to its end; (status, stdout, stderr)."""
        child = self.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        try:
            out, err = child.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.end(child, signal.SIGKILL)
            raise Failed(f'{" ".join(map(str, argv[1:4]))} took longer than {patience:.0f} s') \
                from None
        except BaseException:
            # an interrupt: the child goes first, the bus after it
            self.end(child, patience=10)
            raise
        self.children.remove(child)
        return child.returncode, out, err

    def bench(self, args, seconds, warmup, env=None, patience=None):
        """A scenario's JSON; Failed with what it said."""
        argv = [self.program('hfbus-bench'), *args, '--json', '--duration',
                f'{seconds * 1000:.0f}ms', '--warmup', f'{warmup * 1000:.0f}ms']
        status, out, err = self.command(argv, patience or seconds * 2 + warmup + 120, env)
        if status != 0:
            raise Failed(reason(err) or f'hfbus-bench {args[0]} ended with {status}')
        try:
            found = json.loads(out)
        except ValueError:
            raise Failed(f'hfbus-bench {args[0]} printed no JSON: {tail(out)[:200]}') from None
        found['command'] = ' '.join(['hfbus-bench'] + argv[1:])
        return found

    def limit(self, args, seconds, warmup=0.5, disk=False, cpus=2):
        """
        A raw limit. cpus: 2 its first thread where ours run, its second where the bus's core
        runs; 1 where the bus's core runs; 0 where ours run; 'beside' where the bus's core runs,
        while ours is kept busy.
        """
        more = ['--data', self.folder] if disk else []
        cores = {2: f'{self.our_cpu},{self.bus_cpu}', 1: self.bus_cpu, 0: self.our_cpu,
                 'beside': f'{self.bus_cpu},{self.our_cpu}'}[cpus]
        return self.bench(['limit', *args, '--cores', str(cores), *more], seconds, warmup)

    def bus(self, **more):
        return Bus(self, **more)

    def warn(self, text):
        if text not in self.warnings:
            self.warnings.append(text)


class Bus:
    """`hfbus up` with one poll core and one memif, in folders of its own."""

    def __init__(self, runner, idle='busy', keep_data=None, args=()):
        self.runner = runner
        self.idle = idle
        self.args = list(args)
        runner.number += 1
        self.data = keep_data or os.path.join(runner.folder, f'bus{runner.number}')
        self.own_data = keep_data is None
        self.socket = os.path.join(runner.sockets, f'{runner.number}.sock')
        self.process = None
        self.log = os.path.join(runner.folder, f'bus{runner.number}.log')
        runtime = os.path.join(runner.sockets, f'run{runner.number}')
        os.mkdir(runtime)
        # neither finds nor replaces the user's bus
        self.env = dict(os.environ, HFBUS_DATA=self.data, XDG_RUNTIME_DIR=runtime)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop(quiet=True)
            raise
        return self

    def __exit__(self, kind, value, trace):
        self.stop(quiet=kind is not None)

    def start(self):
        argv = [self.runner.program('hfbus'), 'up', '--data', self.data, '--cores',
                str(self.runner.bus_cpu), '--idle', self.idle, '--port',
                f'net_memif0,role=server,socket={self.socket},socket-abstract=no@{BUS_IP}/24',
                *self.args]
        with open(self.log, 'w', encoding='utf-8') as log:
            self.process = self.runner.spawn(argv, stdout=subprocess.PIPE, stderr=log,
                                             env=self.env)
        said, ready = threading.Event(), []
        threading.Thread(target=self._listen, args=(self.process.stdout, said, ready),
                         daemon=True).start()
        if not said.wait(120) or not ready:
            raise Failed(f'the bus did not start: {self.log_tail()}')

    @staticmethod
    def _listen(lines, said, ready):
        for line in lines:
            if 'ready' in line:
                ready.append(line)
                said.set()
        # what comes later nobody needs, but it must not fill the pipe
        said.set()

    def log_tail(self):
        with contextlib.suppress(OSError):
            with open(self.log, encoding='utf-8', errors='replace') as f:
                return tail(f.read()) or 'it said nothing'
        return 'it said nothing'

    def stop(self, quiet=False):
        if self.process is not None:
            status = self.runner.end(self.process, signal.SIGINT)
            if status != 0 and not quiet:
                self.runner.warn(f'{self.runner.doing}: the bus ended with status {status} after '
                                 f'it was measured: {self.log_tail()}')
            self.process = None
        if self.own_data:
            shutil.rmtree(self.data, ignore_errors=True)

    # what is done with it ---------------------------------------------------------------

    def scenario(self, args, seconds, warmup=0.5, transport='memif', cpus=1, patience=None):
        args = list(args)
        if transport == 'memif':
            args += ['--transport', 'memif', '--address', BUS_IP, '--device',
                     f'net_memif0,role=client,socket={self.socket},socket-abstract=no']
        elif transport is not None:
            args += ['--transport', transport]
        cores = f'{self.runner.our_cpu}' if cpus == 1 else \
            f'{self.runner.our_cpu},{self.runner.bus_cpu}'
        try:
            return self.runner.bench([*args, '--data', self.data, '--cores', cores], seconds,
                                     warmup, self.env, patience)
        except Failed as e:
            if self.process is not None and self.process.poll() is not None:
                raise Failed(f'{e}; the bus had ended with {self.process.poll()}: '
                             f'{self.log_tail()}') from None
            raise

    def hfbus(self, *args):
        status, out, err = self.runner.command([self.runner.program('hfbus'), *args], 120,
                                               self.env)
        if status != 0:
            raise Failed(reason(err) or f'hfbus {args[0]} ended with {status}')
        return out

    def counters(self):
        """name -> sum over cores and ports"""
        sums = {}
        for c in json.loads(self.hfbus('stat', '--json'))['counters']:
            sums[c['name']] = sums.get(c['name'], 0) + c['value']
        return sums

    def latency(self):
        """What `hfbus stat --latency` knows of the stages; None where it knows nothing."""
        try:
            return json.loads(self.hfbus('stat', '--latency', '--json'))
        except (Failed, ValueError):
            return None

    def pids(self):
        pid = self.process.pid
        with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
            return [int(p) for p in f.read().split()]

    def hfbusd_pid(self):
        for pid in self.pids():
            with contextlib.suppress(OSError):
                with open(f'/proc/{pid}/comm', encoding='ascii') as f:
                    if f.read().strip() == 'hfbusd':
                        return pid
        raise Failed('hfbusd is not running')


class MemoryWatch:
    """Resident bytes of a process, sampled while something else runs."""

    def __init__(self, pid, each_s=0.5):
        self.pid, self.each_s = pid, each_s
        self.samples = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.over.wait(self.each_s):
            with contextlib.suppress(OSError, ValueError):
                with open(f'/proc/{self.pid}/statm', encoding='ascii') as f:
                    pages = int(f.read().split()[1])
                self.samples.append((time.monotonic(), pages * os.sysconf('SC_PAGESIZE')))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def growth(self):
        """Bytes from the middle of the time to its end; 0 when it fell."""
        if len(self.samples) < 2:
            return 0
        return max(0, self.samples[-1][1] - self.samples[len(self.samples) // 2][1])
