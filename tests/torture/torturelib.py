# SPDX-License-Identifier: Apache-2.0
"""What the torture tests share: starting the programs, and checking what was read back."""
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib

START_SECONDS = 60


class Failed(Exception):
    """The test cannot go on; its sentence says why."""


def main(body):
    """A test's end: what failed is its last line and exit status 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        body()
    except Failed as failure:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {failure}")


def judge(result, nothing, something):
    """Fails unless the counts named in `nothing` are 0 and those in `something` are not."""
    bad = [f"{name}: {result[name]}" for name in nothing if result[name]]
    bad += [f"no {name}" for name in something if not result[name]]
    if bad:
        raise Failed(f"found {', '.join(bad)} (seed {result['seed']})")


def wait_for(what, condition, seconds=START_SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise Failed(f"no {what} within {seconds} s")


class Program:
    """A process whose output is read all the time, so that it never waits for us."""

    def __init__(self, arguments, log, ready=None):
        self.arguments = arguments
        self.lines = queue.Queue()
        self.log = log
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=log)
        self.last = ""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if ready is not None:
            self.wait_line(ready)

    def read(self):
        with self.process.stdout as out:
            for line in out:
                self.lines.put(line.decode(errors="replace").rstrip("\n"))
        self.lines.put(None)

    def wait_line(self, part, seconds=START_SECONDS):
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise Failed(f"{self.arguments[0]}: no '{part}' in {seconds} s") from None
            if line is None:
                raise Failed(f"{self.arguments[0]} ended with {self.process.wait()} before "
                             f"'{part}'; see {getattr(self.log, 'name', 'its log')}")
            if part in line:
                return line

    def rest(self):
        """All lines until the end of output, which the process's end brings."""
        found = []
        while (line := self.lines.get(timeout=START_SECONDS)) is not None:
            found.append(line)
        return found

    def next_line(self):
        try:
            line = self.lines.get(timeout=START_SECONDS)
        except queue.Empty:
            raise Failed(f"{self.arguments[0]} prints nothing any more") from None
        if line is None:
            raise Failed(f"{self.arguments[0]} ended with {self.process.wait()}")
        return line

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        self.process.kill()
        return self.process.wait()

    def stop(self, seconds=START_SECONDS):
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)


class Bus:
    """A data folder and the programs on it. Use with `with`: nothing is left behind."""

    def __init__(self, build, name):
        self.build = os.path.abspath(build)
        if not os.path.exists(os.path.join(self.build, "hfbusd")):
            print("skipped: there is no hfbusd in the build folder", file=sys.stderr)
            sys.exit(77)
        self.folder = tempfile.mkdtemp(prefix=f"hfbus-{name}-")
        self.data = os.path.join(self.folder, "data")
        os.mkdir(self.data)
        # Of our own, so that another bus of this user is not touched.
        os.environ["XDG_RUNTIME_DIR"] = self.folder
        self.programs = []
        self.hfbusd = None
        self.control = None
        self.keep = bool(os.environ.get("HFBUS_TEST_KEEP"))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for program in self.programs:
            if program.alive():
                program.kill()
        if kind is not None:
            for name in sorted(os.listdir(self.folder)):
                if name.endswith(".log"):
                    with open(os.path.join(self.folder, name), errors="replace") as log:
                        tail = log.read()[-3000:]
                    if tail:
                        print(f"--- {name}\n{tail}", file=sys.stderr)
        if self.keep:
            print(f"kept: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, program):
        return os.path.join(self.build, program)

    def run(self, *arguments, log="programs.log", ready=None):
        with open(os.path.join(self.folder, log), "ab") as out:
            program = Program(list(arguments), out, ready)
        self.programs.append(program)
        return program

    def start_hfbusd(self, wait=True):
        self.hfbusd = self.run(self.path("hfbusd"), "--data", self.data, "--idle", "adaptive",
                               log="hfbusd.log", ready="ready" if wait else None)
        return self.hfbusd

    def start_control(self):
        self.control = self.run(self.path("hfbus-control"), "--data", self.data,
                                log="control.log", ready="ready")
        return self.control

    def hfbus(self, *arguments, check=True, seconds=120, **more):
        done = subprocess.run([self.path("hfbus"), *arguments, "--data", self.data], text=True,
                              capture_output=True, timeout=seconds, check=False, **more)
        if check and done.returncode != 0:
            raise Failed(f"hfbus {' '.join(arguments)}: {done.returncode}: {done.stderr}")
        return done

    def create(self, topic, *settings):
        """By hfbus-control, which may not have met hfbusd yet."""
        end = time.monotonic() + 20
        while True:
            done = self.hfbus("topic", "create", topic, *settings, check=False)
            if done.returncode == 0:
                return
            if time.monotonic() > end:
                raise Failed(f"topic create {topic}: {done.stderr}")
            time.sleep(0.2)

    def producer(self, number, topic, partition, *options):
        acks = os.path.join(self.folder, f"acks.{number}")
        program = self.run(self.path("tests/torture/torture-producer"), "--data", self.data,
                           "--topic", topic, "--partition", str(partition), "--id", str(number),
                           "--acks", acks, *options, log="producers.log")
        program.acks = acks
        program.number = number
        program.partition = partition
        return program

    def committed_end(self, topic, partition):
        """The offset behind all that the bus has, once all of that is committed."""
        def end():
            done = self.hfbus("topic", "describe", topic, "--json", check=False)
            if done.returncode != 0:
                return None
            partitions = json.loads(done.stdout)["partitions"]
            if len(partitions) <= partition:
                return None  # a bus that has just started has not opened it yet
            at = partitions[partition]
            return at["received"]["offset"] == at["committed"]["offset"] and at["committed"]
        return wait_for(f"end of {topic}/{partition} that is committed", end)["offset"]

    def all_of(self, reader, topic, partition):
        """Stop `hfbus consume --format json` of a partition once it has seen all; its lines."""
        end = self.committed_end(topic, partition)
        found, offset = [], -1
        while offset < end - 1:
            found.append(json.loads(reader.next_line()))
            offset = found[-1].get("offset", offset)
        reader.stop()
        return found + [json.loads(line) for line in reader.rest()]

    def read_back(self, topic, partition):
        """Each event of a partition as its decoded JSON line, from the first to the end now."""
        with subprocess.Popen([self.path("hfbus"), "consume", topic, "--partition",
                               str(partition), "--from", "earliest", "--until-end", "--format",
                               "json", "--data", self.data], stdout=subprocess.PIPE) as reader:
            for line in reader.stdout:
                yield json.loads(line)
        if reader.returncode != 0:
            raise Failed(f"hfbus consume ended with {reader.returncode}")


def read_acks(path):
    """[(first, count, base_offset)] in the order the acks came; a torn last line is not one."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="ascii") as lines:
        return [tuple(int(x) for x in line.split()) for line in lines if line.endswith("\n")]


class Checker:
    """Checks a partition's events against what its producers saw acked."""

    def __init__(self):
        self.next_offset = 0
        self.next = {}          # producer -> sequence expected next
        self.offsets = {}       # producer -> offset of each sequence
        self.events = 0
        self.duplicated = 0
        self.reordered = 0
        self.damaged = 0        # not what any producer sent
        self.holes = 0          # in the broker's offsets, or left out between two of a producer

    def take(self, line):
        value = line.get("value")
        if value is None or line.get("encoding") == "base64":
            self.damaged += 1
            return
        self.events += 1
        if line["offset"] != self.next_offset:
            self.holes += 1
        self.next_offset = line["offset"] + 1
        parts = value.split(" ", 3)
        if len(parts) != 4 or not parts[0].isdigit() or not parts[1].isdigit() or \
                f"{zlib.crc32(f'{parts[0]} {parts[1]} {parts[3]}'.encode()):08x}" != parts[2]:
            self.damaged += 1
            return
        producer, sequence = int(parts[0]), int(parts[1])
        known = self.offsets.setdefault(producer, {})
        if sequence in known:
            self.duplicated += 1
            return
        expected = self.next.get(producer, 0)
        if sequence < expected:
            self.reordered += 1
        elif sequence > expected:
            self.holes += 1
        self.next[producer] = max(expected, sequence + 1)
        known[sequence] = line["offset"]

    def check_acks(self, producer, acks):
        """(acked, lost, misplaced): each acked sequence is there, the first of an ack where it said.

        (What follows the first may stand apart: other producers' batches come in between.)
        """
        known = self.offsets.get(producer, {})
        acked = lost = misplaced = 0
        for first, count, base in acks:
            for i in range(count):
                acked += 1
                offset = known.get(first + i)
                if offset is None:
                    lost += 1
                elif i == 0 and base >= 0 and offset != base:
                    misplaced += 1
        return acked, lost, misplaced
