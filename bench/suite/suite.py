#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
make bench: each budget beside the raw limit of this machine, in turn, several times; what came
out as build/bench/results.json and build/bench/report.html.

results.json is a list, one object a figure:

    {"budget": 1, "case": "…", "metric": "p50", "unit": "us", "better": "lower",
     "hfbus": 1.1, "raw": 0.85, "ratio": 1.29, "target": 1.5, "absolute": false, "met": true,
     "runs": [{"hfbus": …, "raw": …, "ratio": …}, …]}

hfbus and raw are the medians of the runs, ratio is theirs. target is for the ratio, with
"absolute" for hfbus itself. A figure that could not be measured has "error", nulls, and is not
met. Both files are written anew after each case. Exit status: 0 all measured (met or not; with
--strict: met), 1 something failed, 2 usage, 130 interrupted.
"""
import argparse
import json
import os
import signal
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import machine  # noqa: E402
import report  # noqa: E402
from budgets import MACHINE, budgets, metric  # noqa: E402
from hugepages import Hugepages  # noqa: E402
from runner import Failed, Runner  # noqa: E402

# A ring, what it grew from, and DPDK on both sides take 0.6 GiB; several partitions more
HUGEPAGES = 700
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Interrupted(BaseException):
    pass


def interrupt(*_):
    raise Interrupted


class Progress:
    """Lines for a terminal or a log; `step` is overwritten on a terminal."""

    def __init__(self, to=sys.stdout):
        self.to = to
        self.terminal = to.isatty()
        self.began = time.monotonic()

    def stamp(self):
        s = int(time.monotonic() - self.began)
        return f'{s // 60:3d}:{s % 60:02d}'

    def line(self, text):
        clear = '\r\033[K' if self.terminal else ''
        print(f'{clear}{text}', file=self.to, flush=True)

    def step(self, text):
        if self.terminal:
            print(f'\r\033[K{self.stamp()}  {text}', end='', file=self.to, flush=True)


def number(value):
    if value is None:
        return '-'
    for step, suffix in ((1e9, ' G'), (1e6, ' M'), (1e4, ' k')):
        if abs(value) >= step:
            return f'{value / (1e3 if step == 1e4 else step):.3g}{suffix}'
    return f'{value:.3g}'


def figures_of(case, outcomes, errors):
    """One object a figure, of each run's results and its error, if any."""
    found = []
    for figure in case.figures:
        runs, failed, raws = [], [], []
        for results, error in zip(outcomes, errors):
            raw = None
            try:
                if figure.raw_of:
                    raw = figure.raw_of(results)
                    if not raw:
                        raise Failed('the raw limit measured nothing, see --duration')
                    raws.append(raw)
                if not error:
                    hfbus = figure.hfbus_of(results)
            except Failed as e:
                error = error or str(e)
            if error:
                failed.append(error)
                continue
            runs.append({'hfbus': hfbus, 'raw': raw, 'ratio': hfbus / raw if raw else None})
        one = {'budget': case.budget, 'case': case.name, 'metric': figure.metric,
               'unit': figure.unit, 'better': figure.better, 'hfbus': None, 'raw': None,
               'ratio': None, 'target': None if callable(figure.target) else figure.target,
               'absolute': figure.absolute, 'met': False, 'runs': runs}
        if figure.note:
            one['note'] = figure.note
        if runs:
            raws = [r['raw'] for r in runs if r['raw'] is not None]
        if raws:
            one['raw'] = statistics.median(raws)
        if runs:
            one['hfbus'] = statistics.median(r['hfbus'] for r in runs)
            one['ratio'], one['target'], one['met'] = figure.judge(one['hfbus'], one['raw'])
        if failed:
            one['met'] = False
            one['error'] = (f'{len(failed)} of {len(failed) + len(runs)} runs failed: '
                            if runs else '') + failed[0]
        found.append(one)
    return found


class Suite:
    def __init__(self, args, progress, cases, pages):
        self.args, self.progress = args, progress
        self.out = os.path.join(args.build, 'bench') if args.output is None else args.output
        os.makedirs(self.out, exist_ok=True)
        self.facts = machine.facts(args.build, SOURCE, self.out)
        self.facts['hugepages'] = pages
        self.runner = Runner(args.build, self.out, args.bus_cpu, args.our_cpu)
        self.cases = []   # what the report shows: figures, curves, commands, errors
        self.machine = []  # raw limits of no budget
        self.began = time.time()
        self.unfinished = [f'{c.budget}: {c.name}' for c in cases]

    def write(self, over=False):
        figures = [f for case in self.cases for f in case['figures']]
        everything = {
            'facts': self.facts, 'machine': self.machine, 'cases': self.cases,
            'warnings': self.runner.warnings, 'unfinished': [] if over else self.unfinished,
            'seconds': time.time() - self.began,
            'options': {'runs': self.args.runs, 'quick': self.args.quick,
                        'duration': self.args.duration, 'only': self.args.only},
        }
        for name, text in (('results.json', json.dumps(figures, indent=1) + '\n'),
                           ('all.json', json.dumps(everything) + '\n'),
                           ('report.html', report.html(everything))):
            path = os.path.join(self.out, name)
            with open(path + '.new', 'w', encoding='utf-8') as f:
                f.write(text)
            os.replace(path + '.new', path)

    def limits(self):
        """The machine's own limits, once."""
        seconds = 0.2 if self.args.quick else self.args.duration or 2
        for name, args, disk, cpus, which, unit in MACHINE:
            name = name.replace('{bus}', str(self.args.bus_cpu))
            which = which.replace('{bus}', str(self.args.bus_cpu))
            self.progress.step(f'limit: {name}')
            one = {'name': name, 'unit': unit, 'value': None}
            try:
                result = self.runner.limit(args, seconds, 0.2, disk, cpus)
                one['value'] = metric(which)(result)
                one['p99'] = result['metrics'].get(which.replace('p50', 'p99'), {}).get('median') \
                    if 'p50' in which else None
                one['command'] = result['command']
            except Failed as e:
                one['error'] = str(e)
            self.machine.append(one)
            self.progress.line(f'{self.progress.stamp()}  limit  {name}: '
                               f'{one.get("error") or number(one["value"]) + " " + unit}')

    def case(self, case):
        outcomes, errors = [], []
        title = f'{case.budget:2d}  {case.name}'
        self.runner.doing = f'{case.budget}. {case.name}'
        prepared = False
        for n in range(self.args.runs):
            results, error = {}, None
            try:
                if not prepared:
                    self.progress.step(f'{title}: preparing')
                    case.prepare(self.runner)
                    prepared = True
                self.progress.step(f'{title}: run {n + 1} of {self.args.runs}')
                case.once(self.runner, results)
            except Failed as e:
                error = str(e)
            outcomes.append(results)
            errors.append(error)
            # what failed twice will go on failing, and each may take minutes
            if n == 1 and all(errors):
                break
        figures = figures_of(case, outcomes, errors)
        for f in figures:
            self.progress.line(f'{self.progress.stamp()}  {title}, {f["metric"]}: {self.text(f)}')
        self.cases.append({
            'budget': case.budget, 'name': case.name, 'figures': figures,
            'curves': report.curves(case.curves, outcomes), 'stages': report.stages(outcomes),
            'stalls': report.stalls(outcomes),
            'commands': report.commands(outcomes), 'notes': report.notes(outcomes),
            'seconds': case.seconds, 'warmup': case.warmup})

    @staticmethod
    def text(f):
        if f['hfbus'] is None:
            return f'FAILED: {f["error"]}'
        raw = f', raw {number(f["raw"])}' if f['raw'] is not None else ''
        ratio = f', ratio {f["ratio"]:.3g}' if f['ratio'] is not None and not f['absolute'] else ''
        sign = '≤' if f['better'] == 'lower' else '≥'
        return (f'{number(f["hfbus"])} {f["unit"]}{raw}{ratio}, target {sign} '
                f'{number(f["target"])}: {"met" if f["met"] else "MISSED"}'
                + (f'; {f["error"]}' if 'error' in f else ''))

    def run(self, cases):
        if not self.args.only:
            self.limits()
        for case in cases:
            self.case(case)
            self.unfinished.pop(0)
            self.write()


def only_parse(text):
    try:
        chosen = sorted({int(n) for n in text.split(',')})
    except ValueError:
        raise argparse.ArgumentTypeError(f"budgets like 1,4, not '{text}'") from None
    if not all(1 <= n <= 10 for n in chosen):
        raise argparse.ArgumentTypeError('budgets are 1 to 10')
    return chosen


def seconds_parse(text):
    units = {'ms': 1e-3, 's': 1, 'm': 60}
    for unit in ('ms', 's', 'm', ''):
        if text.endswith(unit):
            try:
                value = float(text[:len(text) - len(unit)]) * units.get(unit, 1)
            except ValueError:
                continue
            if 0.001 <= value <= 86400:
                return value
    raise argparse.ArgumentTypeError(f"a time like 2s or 500ms, not '{text}'")


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1, not '{text}'")
    return int(text)


def number_parse(text):
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"a number, not '{text}'")
    return int(text)


def options(argv):
    p = argparse.ArgumentParser(
        prog='make bench', description='Measure each budget beside the raw limit of this machine.',
        epilog='Writes results.json, all.json and report.html. Nothing else should run meanwhile.')
    p.add_argument('--build', default=os.path.join(SOURCE, 'build'), help='build folder')
    p.add_argument('--output', help='folder for what is written (BUILD/bench); the bus has its '
                   'data there too, so it tells which disk is measured')
    p.add_argument('--only', type=only_parse, metavar='N,N', help='these budgets')
    p.add_argument('--runs', type=positive, help='runs of each case (5; quick 1)')
    p.add_argument('--duration', type=seconds_parse, metavar='D',
                   help='measured time of each half of a run, instead of 5, 12, 30 or 60 s')
    p.add_argument('--quick', action='store_true',
                   help='all in a few minutes: whether it works, not how fast it is')
    p.add_argument('--strict', action='store_true', help='exit status 1 also for a missed budget')
    p.add_argument('--idle', choices=('busy', 'adaptive'),
                   help='idle strategy of the bus in all cases, for trying on a machine in use')
    p.add_argument('--bus-cpu', type=int, default=1, help='CPU of the poll core (1)')
    p.add_argument('--our-cpu', type=int, default=0, help='CPU of the other side (0)')
    p.add_argument('--hugepages', type=number_parse, metavar='N',
                   help='have N hugepages of 2 MiB free: as root what is missing is reserved, and '
                   f'given back at the end ({HUGEPAGES}; quick 0)')
    p.add_argument('--list', action='store_true', help='show the cases and end')
    args = p.parse_args(argv)
    args.runs = args.runs or (1 if args.quick else 5)
    if args.hugepages is None:
        args.hugepages = 0 if args.quick else HUGEPAGES
    return args


def minutes(cases, runs, whole):
    """What it takes, about; whole: with the machine's own limits."""
    return (sum(c.estimate() * runs for c in cases) + (30 if whole else 0)) / 60


def main(argv=None):
    args = options(argv)
    cases = [c for c in budgets(args.quick) if not args.only or c.budget in args.only]
    for case in cases:
        if args.duration or args.quick:
            case.seconds = args.duration or 0.3
        if args.quick:
            case.warmup = min(case.warmup, 0.2)
            case.fill = 0
        case.idle = args.idle or case.idle
    if args.list:
        for case in cases:
            print(f'{case.budget:2d}  {case.name}: '
                  f'{", ".join(f.metric for f in case.figures)}')
        return 0
    progress = Progress()
    progress.line(f'{len(cases)} cases, {args.runs} run{"s" if args.runs > 1 else ""} of each: '
                  f'about {minutes(cases, args.runs, not args.only):.0f} minutes')
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for one in signals:
        signal.signal(one, interrupt)
    suite, status = None, 0
    pages = Hugepages(args.hugepages)
    try:
        said = pages.reserve()
        progress.line(f'hugepages: {said}')
        suite = Suite(args, progress, cases, said)
        suite.run(cases)
        suite.write(over=True)
    except Interrupted:
        progress.line('interrupted: ending what runs')
        status = 130
    except (Failed, OSError) as e:
        print(f'make bench: {e}', file=sys.stderr)
        status = 1
    finally:
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        if suite is not None:
            suite.runner.close()
        said = pages.give_back()
        if said:
            progress.line(said)
    if suite is None:
        return status
    if status != 0:
        suite.write()
    figures = [f for case in suite.cases for f in case['figures']]
    failed = [f for f in figures if 'error' in f] + [m for m in suite.machine if 'error' in m]
    met = sum(f['met'] for f in figures)
    for text in suite.runner.warnings:
        progress.line(f'warning: {text}')
    seconds = time.monotonic() - progress.began
    progress.line(f'{met} of {len(figures)} figures met, {len(failed)} failed, in '
                  f'{int(seconds) // 60} min {int(seconds) % 60} s: '
                  f'{os.path.join(suite.out, "report.html")}')
    if status == 0 and (failed or (args.strict and met < len(figures))):
        status = 1
    return status


if __name__ == '__main__':
    sys.exit(main())
