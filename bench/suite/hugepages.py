# SPDX-License-Identifier: Apache-2.0
"""
hugepages.py - 2 MiB pages for the bus, its clients and the raw limits, while a suite runs.

    pages = Hugepages(700)
    print(pages.reserve())      # one sentence: what there is, and what to do about it
    ...
    pages.give_back()           # a sentence where there is something to say, else None

As root reserve() makes up what is missing, where the memory is there; give_back() leaves the
machine as it was found. All users fall back to ordinary pages by themselves.
"""
import os

FOLDER = '/sys/kernel/mm/hugepages/hugepages-2048kB'
PAGE_MIB = 2
# of the memory that is free, what may be taken for it
SHARE = 0.5


def number_read(path):
    try:
        with open(path, encoding='ascii') as f:
            return int(f.read())
    except (OSError, ValueError):
        return None


def available_mib():
    try:
        with open('/proc/meminfo', encoding='ascii') as f:
            for line in f:
                if line.startswith('MemAvailable:'):
                    return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    return 0


class Hugepages:
    def __init__(self, wanted, folder=FOLDER, available=available_mib):
        self.wanted, self.available = wanted, available
        self.path = os.path.join(folder, 'nr_hugepages')
        self.free_path = os.path.join(folder, 'free_hugepages')
        self.before = self.made = None  # of nr_hugepages, where we changed it

    def _write(self, pages):
        with open(self.path, 'w', encoding='ascii') as f:
            f.write(f'{pages}\n')

    def reserve(self):
        free, total = number_read(self.free_path), number_read(self.path)
        if free is None or total is None:
            return 'none of 2 MiB on this machine: all runs on ordinary pages'
        if free >= self.wanted > 0:
            return f'{free} of 2 MiB free'
        hint = (f'; for figures with them: echo {total + self.wanted - free} > {self.path}'
                if self.wanted else '')
        if self.wanted == 0:
            return f'{free} of 2 MiB free, none reserved for this run'
        missing = self.wanted - free
        if missing * PAGE_MIB > self.available() * SHARE:
            return f'{free} of 2 MiB free, and no memory for {missing} more'
        try:
            # first of all: whatever happens behind, it is given back
            self.before = total
            self._write(total + missing)
        except OSError:
            self.before = None
            return f'{free} of 2 MiB free, {self.wanted} wanted{hint}'
        self.made = number_read(self.path)
        free = number_read(self.free_path) or 0
        short = '' if free >= self.wanted else f', {self.wanted} wanted: memory is in pieces'
        return (f'{free} of 2 MiB free{short}; {self.made - total} reserved for this run, given '
                'back at its end')

    def give_back(self):
        if self.before is None:
            return None
        before, self.before = self.before, None
        now = number_read(self.path)
        if self.made is not None and now != self.made:
            return f'hugepages: somebody else changed {self.path} meanwhile; it is left at {now}'
        try:
            self._write(before)
        except OSError as e:
            return f'hugepages: not given back: {e}; echo {before} > {self.path}'
        return None
