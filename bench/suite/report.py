# SPDX-License-Identifier: Apache-2.0
"""
report.py - what was measured as one HTML page that needs nothing else.

    html({'facts': …, 'machine': […], 'cases': […], 'warnings': […], …})

The other functions take from the runs' results what a page shows, so that what is kept stays
small.
"""
import statistics

from charts import (bar_chart, bullet, esc, micros, nines, number, percentile_chart, plain,
                    range_chart)

# where curves are drawn: steps of a tenth of a nine
GRID = [1 - 10 ** -(n / 20) for n in range(0, 141)]


# from results ---------------------------------------------------------------------------

def value_at(points, share):
    """Between points in steps of nines, as the chart is drawn."""
    before = None
    # the greatest of n values stands where one of n is above
    last = 1 - 1 / max(points[-1][2], 2)
    for value, at, _ in points:
        at = min(at, last)
        if at >= share - 1e-12:
            if before is None or nines(at) <= nines(before[1]):
                return value
            part = (nines(share) - nines(before[1])) / (nines(at) - nines(before[1]))
            return before[0] + (value - before[0]) * max(0.0, min(1.0, part))
        before = (value, at)
    return points[-1][0]


def curve_median(runs):
    """[[share, us], …]: at each share the median over the runs that reach so far."""
    runs = [points for points in runs if points]
    found = []
    for share in GRID:
        values = [value_at(points, share) for points in runs
                  if (1 - share) * points[-1][2] >= 1]
        if len(values) * 2 < len(runs) or not values:
            break
        # a run that ends here must not let the curve fall
        found.append([share, max(statistics.median(values), found[-1][1] if found else 0)])
    return found


def curves(wanted, outcomes):
    """wanted: (label, which result, which latency)"""
    found = []
    for label, which, name in wanted:
        runs = [o[which].get('curves', {}).get(name) for o in outcomes if o.get(which)]
        points = curve_median([r for r in runs if r])
        if points:
            found.append({'label': label, 'points': points})
    return found


def commands(outcomes):
    found = []
    for outcome in outcomes[:1]:
        for which in ('raw', 'checked', 'hfbus', 'stalls'):
            if outcome.get(which, {}).get('command'):
                found.append([which, outcome[which]['command']])
    return found


def notes(outcomes):
    found = []
    for outcome in outcomes:
        for which in ('raw', 'checked', 'hfbus'):
            for text in outcome.get(which, {}).get('notes', []):
                if text not in found:
                    found.append(text)
    return found


def stalls(outcomes):
    """The machine's gaps, medians over the runs: {metric: [value, unit]}"""
    found = {}
    for outcome in outcomes:
        for name, m in outcome.get('stalls', {}).get('metrics', {}).items():
            found.setdefault(name, ([], m['unit']))[0].append(m['median'])
    return {name: [statistics.median(values), unit] for name, (values, unit) in found.items()}


def stages(outcomes):
    """What the bus itself says of the way of its events: the last run's."""
    for outcome in reversed(outcomes):
        rows = stage_rows(outcome.get('stages'))
        if rows:
            return rows
    return []


# as `hfbus stat --latency` names them
STAGES = {
    'received_appended': 'received → in the ring',
    'received_submitted': 'received → in a write',
    'received_durable': 'received → durable',
    'received_acked': 'received → ack sent',
    'write': 'a write',
    'flush': 'a flush of the device',
    'committed_pushed': 'committed → pushed',
    'handover': 'core → owner\'s core',
}


def stage_rows(said):
    """[{name, count, p50, …}] in us, of `hfbus stat --latency --json`, over all cores."""
    rows = []
    for one in (said or {}).get('stages', []):
        if one.get('core') != 'all' or not one.get('count'):
            continue
        rows.append({'name': STAGES.get(one['stage'], one['stage'].replace('_', ' → ')),
                     'weight': one.get('weight', ''), 'count': one['count'],
                     **{p: one.get(f'{p}_ns', 0) / 1000
                        for p in ('p50', 'p90', 'p99', 'p99.9', 'max')}})
    return rows


# the page -------------------------------------------------------------------------------

STYLE = '''
:root { color-scheme: light dark; --bg: #f6f7f9; --card: #ffffff; --ink: #17202c; --soft: #5a6675;
  --rule: #dfe4ea; --grid: #e6eaef; --accent: #1f6feb; --raw: #8a94a3; --good: #1a7f4b;
  --good-bg: #e3f4ea; --bad: #b42318; --bad-bg: #fdecea; --s2: #c2570c; --s3: #7a3fb8;
  --mark: #17202c; }
@media (prefers-color-scheme: dark) { :root { --bg: #0f141b; --card: #171e28; --ink: #e6ebf2;
  --soft: #9aa7b6; --rule: #2a3441; --grid: #232d39; --accent: #5aa2ff; --raw: #8593a5;
  --good: #55c98a; --good-bg: #16301f; --bad: #ff8a7a; --bad-bg: #3a1c1a; --s2: #f0935a;
  --s3: #b98cf0; --mark: #e6ebf2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 16px; margin: 0 0 4px; } h4 { font-size: 14px; margin: 18px 0 2px; }
p { margin: 6px 0; } .soft { color: var(--soft); }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 8px; }
.tile, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: 12px 18px; min-width: 130px; } .tile b { display: block; font-size: 24px;
  font-variant-numeric: tabular-nums; } .tile span { color: var(--soft); font-size: 13px; }
.card { padding: 18px 20px; margin: 14px 0; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--rule);
  vertical-align: middle; }
tr:last-child td { border-bottom: 0; }
th { font-weight: 600; color: var(--soft); font-size: 12.5px; white-space: nowrap; }
td.case { min-width: 240px; } tr.more td { border-top: 0; }
tr:has(+ tr.more) td { border-bottom: 0; padding-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.verdict { display: inline-block; border-radius: 999px; padding: 1px 10px; font-size: 12.5px;
  font-weight: 600; white-space: nowrap; }
.verdict.met { background: var(--good-bg); color: var(--good); }
.verdict.missed, .verdict.failed { background: var(--bad-bg); color: var(--bad); }
.error { color: var(--bad); background: var(--bad-bg); border-radius: 6px; padding: 8px 12px;
  margin: 8px 0; overflow-wrap: anywhere; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--soft); font-size: 13.5px; }
code { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
svg.chart { display: block; width: 100%; max-width: 860px; height: auto; margin: 12px 0 4px; }
svg.bullet { width: 120px; height: 16px; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .tick, svg .axis { fill: var(--soft); font-size: 11.5px; } svg .legend { font-size: 12.5px; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2.4; stroke-linejoin: round; stroke-linecap: round; }
svg .s0 { stroke: var(--accent); } svg .s1 { stroke: var(--raw); stroke-dasharray: 6 4; }
svg .s2 { stroke: var(--s2); } svg .s3 { stroke: var(--s3); stroke-dasharray: 2 4; }
svg .bar.hfbus { fill: var(--accent); } svg .bar.raw { fill: var(--raw); opacity: 0.75; }
svg .bar.met { fill: var(--good); } svg .bar.missed { fill: var(--bad); }
svg .track { fill: var(--grid); } svg .good { fill: var(--good-bg); }
svg .whisker { stroke: var(--ink); stroke-width: 1.3; fill: none; opacity: 0.65; }
svg .mark { stroke: var(--mark); stroke-width: 2; }
svg .value { font-variant-numeric: tabular-nums; }
svg .dot { fill: var(--s3); } svg .span { stroke: var(--s3); stroke-width: 2; opacity: 0.55; }
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } }
'''


def value_text(value, unit):
    if value is None:
        return '–'
    if unit == 'us':
        return micros(value)
    if unit in ('events/s', 'datagrams/s'):
        # "12.7 M/s"
        return f'{number(value)}{"" if abs(value) >= 1e4 else " "}/s'
    return f'{number(value)} {unit}'


def target_text(f):
    if f['target'] is None:
        return '–'
    sign = '≤' if f['better'] == 'lower' else '≥'
    return f'{sign} {value_text(f["target"], f["unit"])}' if f['absolute'] else \
        f'{sign} {f["target"]:g} ×'


def verdict(f):
    word = 'failed' if f['hfbus'] is None else 'met' if f['met'] else 'missed'
    sign = '✓' if word == 'met' else '✗'
    return f'<span class="verdict {word}">{sign} {word}</span>'


def spread(f):
    values = [r['hfbus'] for r in f['runs']]
    if len(values) < 2:
        return f'{len(values)} run' if values else '–'
    return f'{value_text(min(values), f["unit"])} – {value_text(max(values), f["unit"])}'


def figure_row(f, anchor=None, first=True):
    """A table's row; with an anchor that of the summary, which names the case."""
    ratio = '–' if f['ratio'] is None else f'{plain(f["ratio"])} ×'
    small = '' if f['absolute'] else bullet(f['ratio'], f['target'], f['better'], f['met'])
    lead, end = '', ''
    if anchor is None:
        end = f'<td class="n soft">{esc(spread(f))}</td>'
    elif first:
        lead = (f'<td class="n">{f["budget"]}</td>'
                f'<td class="case"><a href="#{anchor}">{esc(f["case"])}</a></td>')
    else:
        lead = '<td></td><td></td>'
    return (f'<tr{"" if first else " class=more"}>{lead}<td>{esc(f["metric"])}</td>'
            f'<td class="n">{esc(value_text(f["hfbus"], f["unit"]))}</td>'
            f'<td class="n">{esc(value_text(f["raw"], f["unit"]))}</td>'
            f'<td class="n">{ratio}</td><td>{small}</td>'
            f'<td class="n">{esc(target_text(f))}</td><td>{verdict(f)}</td>{end}</tr>')


def figure_head(lead):
    return ('<tr>' + ('<th class="n"></th><th>budget</th>' if lead else '')
            + '<th>metric</th><th class="n">hfbus</th><th class="n">raw limit</th>'
            '<th class="n">ratio</th><th></th><th class="n">target</th><th></th>'
            + ('' if lead else '<th class="n">hfbus, all runs</th>') + '</tr>')


def summary(cases):
    rows = ''.join(figure_row(f, f'case{n}', first=m == 0) for n, case in enumerate(cases)
                   for m, f in enumerate(case['figures']))
    return f'<div class="card scroll"><table>{figure_head(True)}{rows}</table></div>'


def throughput_bars(case):
    out = []
    for f in case['figures']:
        if f['better'] != 'higher' or f['hfbus'] is None:
            continue
        rows = []
        if f['raw'] is not None:
            raws = [r['raw'] for r in f['runs']]
            rows.append({'label': 'raw limit', 'value': f['raw'], 'low': min(raws),
                         'high': max(raws), 'kind': 'raw'})
        values = [r['hfbus'] for r in f['runs']]
        mark = f['target'] if f['absolute'] else f['target'] * f['raw'] if f['raw'] else None
        rows.append({'label': f'hfbus, {f["metric"]}', 'value': f['hfbus'], 'low': min(values),
                     'high': max(values), 'kind': 'hfbus', 'mark': mark})
        out.append(bar_chart(rows, f['unit'], f'{case["name"]}: {f["metric"]}'))
    return ''.join(out)


def stage_table(rows):
    if not rows:
        return ''
    columns = ('p50', 'p90', 'p99', 'p99.9', 'max')
    cells = ''.join(
        f'<tr><td>{esc(r["name"])}</td><td class="n">{number(r["count"])} {esc(r["weight"])}</td>'
        + ''.join(f'<td class="n">{esc(micros(r[p]))}</td>' for p in columns) + '</tr>'
        for r in rows)
    ranges = range_chart([{'label': r['name'], 'points': [r[p] for p in columns[:4]],
                           'text': micros(r['p50'])} for r in rows], 'stages')
    return ('<h4>Where the time goes, by the bus itself</h4><p class="soft">From the receive on '
            'the port, in the last run with its warm-up. Large dots are medians, small ones '
            'p90, p99 and p99.9.</p>' + ranges
            + '<div class="scroll"><table><tr><th>stage</th><th class="n">of</th>'
            + ''.join(f'<th class="n">{p}</th>' for p in columns) + '</tr>'
            + cells + '</table></div>')


def case_card(n, case):
    errors = []
    for f in case['figures']:
        if 'error' in f and f['error'] not in errors:
            errors.append(f['error'])
    out = [f'<section class="card" id="case{n}"><h3>{case["budget"]}. {esc(case["name"])}</h3>']
    out += [f'<div class="error">{esc(text)}</div>' for text in errors]
    out.append('<div class="scroll"><table>' + figure_head(False)
               + ''.join(figure_row(f) for f in case['figures']) + '</table></div>')
    out += [f'<p class="soft">{esc(f["metric"])}: {esc(f["note"])}</p>' for f in case['figures']
            if f.get('note')]
    out.append(throughput_bars(case))
    out.append(percentile_chart(case['curves'], f'latency percentiles: {case["name"]}'))
    if case['stalls']:
        out.append('<p class="soft">The machine\'s own stalls in the same runs: '
                   + ', '.join(f'{esc(name)} {esc(value_text(value, unit))}'
                               for name, (value, unit) in case['stalls'].items()) + '</p>')
    out.append(stage_table(case['stages']))
    out += [f'<p class="soft">{esc(text)}</p>' for text in case['notes']]
    if case['commands']:
        out.append('<details><summary>commands</summary>'
                   + ''.join(f'<p><span class="soft">{esc(which)}</span><br><code>{esc(text)}</code>'
                             '</p>' for which, text in case['commands']) + '</details>')
    out.append('</section>')
    return ''.join(out)


def limits(machine):
    if not machine:
        return ''
    rows = ''.join(
        f'<tr><td>{esc(m["name"])}</td><td class="n">'
        + (f'<span class="verdict failed">✗ failed</span></td><td></td><td>{esc(m["error"])}'
           if 'error' in m else
           f'{esc(value_text(m["value"], m["unit"]))}</td><td class="n">'
           f'{esc(micros(m["p99"])) if m.get("p99") is not None else ""}</td><td>')
        + '</td></tr>' for m in machine)
    return ('<h2>The machine\'s other limits</h2><div class="card scroll"><table><tr><th>limit</th>'
            '<th class="n">value (p50 of latencies)</th><th class="n">p99</th><th></th></tr>'
            + rows + '</table></div>')


def html(everything):
    cases = everything['cases']
    figures = [f for case in cases for f in case['figures']]
    met = sum(f['met'] for f in figures)
    failed = sum('error' in f for f in figures)
    seconds = int(everything['seconds'])
    facts = everything['facts']
    options = everything['options']
    tiles = [(f'{met} of {len(figures)}', 'figures met'), (str(failed), 'with errors'),
             (str(options['runs']), 'runs of each' if options['runs'] > 1 else 'run of each'),
             (f'{seconds // 60} min {seconds % 60} s', 'in all')]
    out = ['<!doctype html><html lang="en"><head><meta charset="utf-8">'
           '<meta name="viewport" content="width=device-width, initial-scale=1">'
           f'<title>hfbus bench, {esc(facts["date"])}</title><style>{STYLE}</style></head>'
           '<body><main>'
           f'<h1>hfbus bench</h1><p class="soft">{esc(facts["hfbus"])} · {esc(facts["host"])} · '
           f'{esc(facts["date"])}<br>Hugepages: {esc(facts["hugepages"])}.</p><div class="tiles">'
           + ''.join(f'<div class="tile"><b>{esc(a)}</b><span>{esc(b)}</span></div>'
                     for a, b in tiles) + '</div>']
    if options['quick']:
        out.append('<div class="error">A quick run: it shows that everything works. Its figures '
                   'say nothing about speed.</div>')
    out += [f'<div class="error">{esc(text)}</div>' for text in everything['warnings']]
    if everything['unfinished']:
        out.append('<div class="error">Not measured, as the run was ended before: '
                   + esc('; '.join(everything['unfinished'])) + '</div>')
    out.append('<h2>Budgets</h2><p class="soft">Medians of the runs. Each run measures the raw '
               'limit, the least code that does it on this machine, and then the bus; the ratio '
               'is what counts, as the machine drifts. The band in the small bars is where a '
               'figure is met, the line its target.</p>')
    out.append(summary(cases))
    out.append('<h2>Machine</h2><div class="card scroll"><table>'
               + ''.join(f'<tr><th>{esc(name)}</th><td>{esc(text)}</td></tr>'
                         for name, text in facts.items()) + '</table></div>')
    out.append(limits(everything['machine']))
    out.append('<h2>Case by case</h2><p class="soft">Curves are medians over the runs; to the '
               'right events get rarer, ten times with each step. Whiskers show the least and the '
               'greatest run.</p>')
    out += [case_card(n, case) for n, case in enumerate(cases)]
    out.append('</main></body></html>\n')
    return ''.join(out)
