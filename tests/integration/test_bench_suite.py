#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Goal:   `make bench` says of every figure what it was, or why it was not measured; what it
        writes is whole; nothing of it stays behind, however it ends.
Method: the judging and the report on results made up here; then the suite itself, with runs
        of a tenth of a second, on cases that need no quiet machine.
"""
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from html.parser import HTMLParser

from hfbtest import BUILD, SOURCE, Process, main, program, wait_for

sys.path.insert(0, os.path.join(SOURCE, 'bench', 'suite'))

import budgets  # noqa: E402
import charts  # noqa: E402
import report  # noqa: E402
import suite  # noqa: E402
from hugepages import Hugepages  # noqa: E402
from runner import Failed  # noqa: E402

SUITE = os.path.join(SOURCE, 'bench', 'suite', 'suite.py')


def scenario(curves=None, **metrics):
    return {'scenario': 'made up', 'command': 'hfbus-bench <made> & up',
            'metrics': {name.replace('_', '.'): {'unit': 'us', 'median': value}
                        for name, value in metrics.items()}, 'curves': curves or {}, 'notes': []}


def case(figures, **more):
    return budgets.Case(1, 'made up', figures, **more)


def test_figures_are_medians_and_judged_by_their_ratio():
    c = case(budgets.latency([('p50', 1.5)]))
    outcomes = [{'raw': scenario(latency_p50=raw), 'hfbus': scenario(ack_p50=hfbus)}
                for raw, hfbus in ((1.0, 1.4), (0.8, 9.0), (2.0, 1.2))]
    (f,) = suite.figures_of(c, outcomes, [None] * 3)
    assert (f['hfbus'], f['raw'], f['ratio'], f['met']) == (1.4, 1.0, 1.4, True), f
    assert [r['ratio'] for r in f['runs']] == [1.4, 11.25, 0.6], f
    assert 'error' not in f and f['budget'] == 1 and f['unit'] == 'us' and f['target'] == 1.5
    higher = case(budgets.throughput(0.5))
    for rate, met in ((11e6, True), (10e6, True), (9.9e6, False)):
        one = {'raw': scenario(rate=20e6), 'hfbus': scenario(rate=rate)}
        assert suite.figures_of(higher, [one], [None])[0]['met'] == met, rate
    absolute = case([budgets.Figure('CPU', '%', 'lower', 5, budgets.of('hfbus', 'cpu'),
                                    absolute=True)])
    for cpu, met in ((5, True), (5.1, False)):
        (f,) = suite.figures_of(absolute, [{'hfbus': scenario(cpu=cpu)}], [None])
        assert f['met'] == met and f['raw'] is None and f['ratio'] is None, f


def test_what_fails_is_an_error_and_never_a_missing_figure():
    c = case(budgets.latency([('p50', 1.5), ('p99', 2.5)]))
    good = {'raw': scenario(latency_p50=1.0, latency_p99=2.0),
            'hfbus': scenario(ack_p50=1.1, ack_p99=2.1)}
    # all runs failed; the raw limit was measured
    figures = suite.figures_of(c, [{'raw': good['raw']}, {}], ['the bus is gone', 'gone again'])
    assert [f['metric'] for f in figures] == ['p50', 'p99']
    for f in figures:
        assert f['hfbus'] is None and f['ratio'] is None and not f['met'], f
        assert f['raw'] is not None and f['error'].startswith('the bus is gone'), f
    # one of three
    figures = suite.figures_of(c, [good, {}, good], [None, 'it fell over', None])
    assert figures[0]['hfbus'] == 1.1 and not figures[0]['met']
    assert figures[0]['error'] == '1 of 3 runs failed: it fell over', figures[0]
    # a scenario that does not give what is asked for
    figures = suite.figures_of(c, [{'raw': good['raw'], 'hfbus': scenario(other=1)}], [None])
    assert 'ack.p50' in figures[0]['error'], figures[0]
    # ... and each of them is in the report
    page = report.html(everything([shown(c, figures)]))
    assert 'gave no ack.p50' in page and page.count('✗ failed') == 5


def test_all_budgets_have_cases():
    for quick in (False, True):
        cases = budgets.budgets(quick)
        assert sorted({c.budget for c in cases}) == list(range(1, 11))
        names = [(c.budget, c.name, f.metric) for c in cases for f in c.figures]
        assert len(names) == len(set(names))


def test_what_is_said_of_its_time_is_true():
    about = suite.minutes(budgets.budgets(), 5, True)
    assert about < 75, about
    for name in ('README.md', 'Makefile', 'docs/PERFORMANCE.md'):
        with open(os.path.join(SOURCE, name), encoding='utf-8') as f:
            assert f'{about:.0f} minutes' in f.read(), (name, about)


def points(base, count):
    """As hfbus-bench prints a latency: [us, share, count at or below]."""
    found, halvings, step = [], 1, 0
    while 2 ** halvings <= count:
        share = 1 - 2.0 ** -halvings
        found.append([base * (1 + step / 10), share, int(count * share)])
        halvings, step = halvings + 1, step + 1
    return found + [[base * 20, 1.0, count]]


def test_curves_are_the_median_of_the_runs():
    runs = [points(base, count) for base, count in ((1.0, 100000), (3.0, 100000), (2.0, 900))]
    found = report.curves([('ack', 'hfbus', 'ack')],
                          [{'hfbus': scenario(curves={'ack': r})} for r in runs])
    assert [c['label'] for c in found] == ['ack']
    curve = found[0]['points']
    assert curve == sorted(curve) and [us for _, us in curve] == sorted(us for _, us in curve)
    assert curve[0][1] == 2.0
    # beyond what the small run can know, the other two; not beyond what they can
    assert 0.9999 < curve[-1][0] <= 1 - 1 / 100000
    assert report.curves([('ack', 'hfbus', 'ack')], [{}, {'hfbus': scenario()}]) == []


class Page(HTMLParser):
    """Open and closed tags must match."""
    VOID = {'meta', 'br', 'line', 'rect', 'path', 'circle'}

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.stack and self.stack.pop() == tag, (tag, self.stack)

    def handle_data(self, data):
        self.text.append(data)


def shown(c, figures, curves=()):
    return {'budget': c.budget, 'name': c.name, 'figures': figures, 'curves': list(curves),
            'stages': [], 'stalls': {}, 'commands': [['hfbus', 'hfbus-bench <x> & y']],
            'notes': ['a <note>'], 'seconds': 1, 'warmup': 1}


def everything(cases, **more):
    return dict({'facts': {'date': 'today', 'host': '<script>alert(1)</script>', 'hfbus': '0.1',
                           'hugepages': '700 of 2 MiB free'},
                 'machine': [{'name': 'kernel UDP echo', 'unit': 'us', 'value': 3.1, 'p99': 4},
                             {'name': 'stalls', 'unit': '%', 'value': None, 'error': 'no <CPU>'}],
                 'cases': cases, 'warnings': ['the <bus> died'], 'unfinished': [], 'seconds': 61,
                 'options': {'runs': 5, 'quick': False, 'duration': None, 'only': None}}, **more)


def test_the_report_is_whole_and_needs_nothing_else():
    c = case(budgets.latency([('p50', 1.5)]))
    outcomes = [{'raw': scenario(latency_p50=1.0, curves={'latency': points(1, 10000)}),
                 'hfbus': scenario(ack_p50=1.25, curves={'ack': points(1.25, 10000)})}] * 2
    curves = report.curves([('ack', 'hfbus', 'ack'), ('raw', 'raw', 'latency')], outcomes)
    rate = case(budgets.throughput(0.5))
    rates = [{'raw': scenario(rate=2e7), 'hfbus': scenario(rate=r)} for r in (1.1e7, 1.2e7)]
    # as `hfbus stat --latency --json` says it
    rates[1]['stages'] = {'window_ns': None, 'stages': [
        {'stage': 'received_acked', 'weight': 'events', 'core': core, 'count': count,
         **({'p50_ns': 751, 'p90_ns': 1230, 'p99_ns': 30000, 'p99.9_ns': 63500, 'max_ns': 1750000}
            if count else {})} for core, count in ((0, 9), ('all', 7), ('all', 0))]}
    cases = [shown(c, suite.figures_of(c, outcomes, [None] * 2), curves),
             dict(shown(rate, suite.figures_of(rate, rates, [None] * 2)),
                  stages=report.stages(rates))]
    assert [(r['count'], r['p50'], r['max']) for r in cases[1]['stages']] == [(7, 0.751, 1750)]
    text = report.html(everything(cases, unfinished=['8: <half>']))
    page = Page(text)
    said = ' '.join(page.text)
    assert '<script>' not in text and '<half>' in said and 'the <bus> died' in said
    for word in ('1.25 µs', '1.25 ×', '≤ 1.5 ×', '11.5 M/s', '0.575 ×', '2 of 2', 'a <note>',
                 'no <CPU>', '99.9 %', 'received → ack sent', '751 ns', '30.0 µs'):
        assert word in said, word
    drawn = [attrs.get('class', '') for tag, attrs in page.tags if tag in ('path', 'rect')]
    assert 'line s0' in drawn and 'line s1' in drawn and 'bar hfbus' in drawn
    # self-contained: nothing is fetched
    for tag, attrs in page.tags:
        assert tag not in ('script', 'link', 'img', 'iframe'), tag
        for name, value in attrs.items():
            assert name != 'src' and (name != 'href' or value.startswith('#')), (name, value)
    assert 'url(' not in text and '@import' not in text and 'prefers-color-scheme: dark' in text
    # numbers in drawings are numbers
    assert 'nan' not in text.replace('Finance', '') and ' inf' not in text


def test_drawings_take_what_is_odd():
    flat = [{'label': 'a', 'points': [[0.0, 5.0], [0.5, 5.0], [0.9, 5.0]]}]
    assert 'line s0' in charts.percentile_chart(flat, 'flat')
    assert charts.percentile_chart([], 'none') == ''
    assert charts.percentile_chart([{'label': 'one', 'points': [[0, 1.0]]}], 'one') == ''
    zero = charts.bar_chart([{'label': 'z', 'value': 0, 'low': 0, 'high': 0, 'kind': 'raw'}], 'x',
                            'zero')
    assert 'rect' in zero and 'nan' not in zero
    assert charts.bullet(None, 1, 'lower', False) == ''
    assert 'rect' in charts.bullet(1000.0, 1, 'lower', False)
    assert charts.number(12345678) == '12.3 M' and charts.micros(0.85) == '850 ns'
    assert charts.micros(1500) == '1.50 ms' and charts.number(0) == '0'


class FakePages(Hugepages):
    """Of a folder of ours, with a kernel that has no more than `most`."""

    def __init__(self, folder, wanted, total, free, most=10**6, available=10**6):
        super().__init__(wanted, folder, lambda: available)
        self.used, self.most = total - free, most
        self._write(total)

    def _write(self, pages):
        pages = min(pages, self.most)
        for path, value in ((self.path, pages), (self.free_path, pages - self.used)):
            with open(path, 'w', encoding='ascii') as f:
                f.write(f'{value}\n')

    def total(self):
        with open(self.path, encoding='ascii') as f:
            return int(f.read())


def test_hugepages_are_reserved_and_given_back():
    with tempfile.TemporaryDirectory() as folder:
        pages = FakePages(folder, 700, total=100, free=40)
        said = pages.reserve()
        assert said.startswith('700 of 2 MiB free; 660 reserved') and pages.total() == 760, said
        assert pages.give_back() is None and pages.total() == 100
        assert pages.give_back() is None and pages.total() == 100
        # memory in pieces: less comes than was asked for, and goes again
        pages = FakePages(folder, 700, total=0, free=0, most=300)
        said = pages.reserve()
        assert said.startswith('300 of 2 MiB free, 700 wanted') and pages.total() == 300, said
        assert pages.give_back() is None and pages.total() == 0
        # left alone: there are enough, none are wanted, no memory, no right to
        for wanted, total, free, available, start in (
                (700, 800, 700, 10**6, '700 of 2 MiB free'),
                (0, 5, 5, 10**6, '5 of 2 MiB free, none'),
                (700, 5, 5, 2779, '5 of 2 MiB free, and no memory for 695 more')):
            pages = FakePages(folder, wanted, total, free, available=available)
            said = pages.reserve()
            assert said.startswith(start) and pages.total() == total, said
            assert pages.give_back() is None and pages.total() == total
        pages = FakePages(folder, 700, 0, 0)
        os.remove(pages.free_path)
        assert 'ordinary pages' in pages.reserve() and pages.give_back() is None
        pages = FakePages(folder, 700, 30, 20)
        pages._write = lambda n: (_ for _ in ()).throw(PermissionError())
        assert 'echo 710 > ' in pages.reserve() and pages.give_back() is None
        assert pages.total() == 30
        # somebody else's number is not ours to change
        pages = FakePages(folder, 700, 0, 0)
        pages.reserve()
        pages._write(900)
        assert 'left at 900' in pages.give_back() and pages.total() == 900


class Folders:
    """Where a suite writes, and where its sockets go; empty but for results at the end."""

    def __enter__(self):
        # O_DIRECT does not work everywhere below /tmp; paths of sockets must be short
        self.out = tempfile.mkdtemp(prefix='bench-', dir=BUILD)
        self.sockets = tempfile.mkdtemp(prefix='hfbus-test-')
        self.env = dict(os.environ, TMPDIR=self.sockets)
        return self

    def left_behind(self):
        return glob.glob(os.path.join(self.out, 'run-*')) + os.listdir(self.sockets)

    def __exit__(self, *_):
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)


def small_run(folders):
    """One that measured something everywhere: spinning threads may not get a turn in a short
    time on a busy machine, so a longer one is tried then."""
    for duration in ('300ms', '1s', '3s'):
        r = subprocess.run([sys.executable, SUITE, '--build', BUILD, '--output', folders.out,
                            '--quick', '--duration', duration, '--only', '1,6', '--idle',
                            'adaptive'], capture_output=True, text=True, timeout=150, check=False,
                           env=folders.env)
        assert not folders.left_behind(), folders.left_behind()
        if r.returncode == 0:
            break
        print(r.stdout)
    assert r.returncode == 0, r.stdout + r.stderr
    assert 'about' in r.stdout.splitlines()[0] and ' met, 0 failed, in ' in r.stdout, r.stdout


def test_the_suite_itself():
    program('hfbus-bench')
    with Folders() as folders:
        small_run(folders)
        results = os.path.join(folders.out, 'results.json')
        with open(results, encoding='utf-8') as f:
            figures = json.load(f)
        assert {f['budget'] for f in figures} == {1, 6} and len(figures) == 6, figures
        for f in figures:
            assert f['hfbus'] > 0 and f['raw'] > 0 and len(f['runs']) == 1, f
            assert abs(f['ratio'] - f['hfbus'] / f['raw']) < 1e-9, f
            lower = f['better'] == 'lower'
            assert f['met'] == (f['ratio'] <= f['target'] if lower else f['ratio'] >= f['target'])
        with open(os.path.join(folders.out, 'report.html'), encoding='utf-8') as f:
            page = Page(f.read())
        assert sum('line s0' == a.get('class') for t, a in page.tags if t == 'path') == 3
        r = subprocess.run([program('hfbus-bench'), 'compare', results, results],
                           capture_output=True, text=True, check=False)
        assert r.returncode == 0 and '6 figures: 0 worse' in r.stdout, r


def test_an_interrupt_leaves_nothing_behind():
    with Folders() as folders:
        child = Process([sys.executable, SUITE, '--build', BUILD, '--output', folders.out,
                         '--duration', '100s', '--only', '6', '--idle', 'adaptive',
                         '--hugepages', '0'],
                        name='suite', env=folders.env)

        def running():
            """The raw limit or the bus, below the suite."""
            if not glob.glob(os.path.join(folders.out, 'run-*')):
                return []
            with open(f'/proc/{child.pid}/task/{child.pid}/children', encoding='ascii') as f:
                return [int(p) for p in f.read().split()]
        pids = wait_for('the suite runs something', running)
        child.signal(signal.SIGINT)
        assert child.wait() == 130, child.tail()
        for pid in pids:
            wait_for(f'{pid} has ended', lambda pid=pid: not os.path.exists(f'/proc/{pid}'))
        assert any('interrupted' in line for line in child.out), child.tail()
        # what was not measured is said
        with open(os.path.join(folders.out, 'report.html'), encoding='utf-8') as f:
            assert 'Not measured' in f.read()
        assert not folders.left_behind(), folders.left_behind()


def test_bad_usage():
    for args in (['--only', '11'], ['--only', 'x'], ['--runs', '0'], ['--duration', '5'
                 ' parsecs'], ['more']):
        r = subprocess.run([sys.executable, SUITE, *args], capture_output=True, text=True,
                           timeout=60, check=False)
        assert r.returncode == 2, (args, r.stderr)
    r = subprocess.run([sys.executable, SUITE, '--list', '--only', '8'], capture_output=True,
                       text=True, timeout=60, check=False)
    assert r.returncode == 0 and 'p99.9' in r.stdout


if __name__ == '__main__':
    main(globals())
