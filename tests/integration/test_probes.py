#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The static tracepoints that the sources and docs/PERFORMANCE.md name are in hfbusd."""
import collections
import glob
import os
import re
import shutil
import subprocess

from hfbtest import main, program, skip

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


def in_binary():
    """{probe: count} by the notes of the program."""
    notes = subprocess.run(['readelf', '-n', program('hfbusd')], capture_output=True, text=True,
                           check=True).stdout
    found = {}
    for name in re.findall(r'Provider: hfbus\s+Name: (\w+)', notes):
        found[name] = found.get(name, 0) + 1
    if not found and not os.path.exists('/usr/include/sys/sdt.h'):
        skip('built without tracepoints: systemtap-sdt-dev is not here')
    return found


def in_sources():
    """(arguments, places) by name."""
    names, places = {}, collections.Counter()
    for path in glob.glob(f'{TOP}/*/*.c') + glob.glob(f'{TOP}/*/*.h'):
        if os.path.basename(path) == 'probe.h':
            continue
        with open(path, encoding='utf-8') as f:
            for arguments, name in re.findall(r'\bHFB_PROBE(\d)\((\w+),', f.read()):
                assert names.setdefault(name, arguments) == arguments, name
                places[name] += 1
    return {name: (arguments, places[name]) for name, arguments in names.items()}


def test_the_program_has_what_the_sources_say():
    found = in_binary()
    assert set(found) == set(in_sources()), (found, in_sources())
    # one place each, but for drops; else a line of bpftrace would count twice. The compiler
    # may copy a place into several of its callers, of which an event passes one.
    assert all(n == 1 for name, (_, n) in in_sources().items() if name != 'drop'), in_sources()


def test_the_document_names_what_there_is():
    found = in_binary()
    with open(f'{TOP}/docs/PERFORMANCE.md', encoding='utf-8') as f:
        text = f.read()
    used = set(re.findall(r'usdt:[^:\s]*:hfbus:(\w+)', text))
    assert used and used <= set(found), used - set(found)
    # and the table there lists each with its arguments
    for name, (arguments, _) in in_sources().items():
        row = re.search(rf'^\| `{name}` \| ([^|]*) \|', text, re.M)
        assert row, f'{name} is not in the table'
        assert len(row[1].split(',')) == int(arguments), row[0]


def test_bpftrace_sees_them():
    found = in_binary()
    if shutil.which('bpftrace') is None or os.geteuid() != 0:
        skip('needs bpftrace, and root')
    listed = subprocess.run(['bpftrace', '-l', f'usdt:{program("hfbusd")}:hfbus:*'],
                            capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        skip(f'bpftrace does not work here: {listed.stderr.strip()[:100]}')
    names = set(re.findall(r':hfbus:(\w+)', listed.stdout))
    assert names == set(found), names ^ set(found)


if __name__ == '__main__':
    main(globals())
