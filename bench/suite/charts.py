# SPDX-License-Identifier: Apache-2.0
"""
charts.py - the report's drawings: inline SVG whose colours are the page's CSS classes, so that
they follow light and dark. Series are told apart by line and label too, not by colour alone.
"""
import html
import math


def esc(text):
    return html.escape(str(text), quote=True)


def number(value, digits=3):
    """Short, with k, M, G where there are many digits before the point."""
    if value is None:
        return '–'
    for step, suffix in ((1e9, ' G'), (1e6, ' M'), (1e4, ' k')):
        if abs(value) >= step:
            value /= 1e3 if step == 1e4 else step
            return plain(value, digits) + suffix
    return plain(value, digits)


def plain(value, digits=3):
    if value == 0:
        return '0'
    before = int(math.floor(math.log10(abs(value)))) + 1
    return f'{value:.{min(6, max(0, digits - before))}f}'


def micros(us):
    """A time that is given in microseconds."""
    if us >= 1e6:
        return f'{plain(us / 1e6)} s'
    if us >= 1e3:
        return f'{plain(us / 1e3)} ms'
    if us < 1:
        return f'{plain(us * 1e3)} ns'
    return f'{plain(us)} µs'


def decade_ticks(low, high):
    """1, 2, 5 of each power of ten within."""
    ticks = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in (1, 2, 5):
            if low <= step * 10.0 ** power <= high:
                ticks.append(step * 10.0 ** power)
    # not more than fit
    if len(ticks) > 9:
        ticks = [t for t in ticks if abs(math.log10(t) - round(math.log10(t))) < 1e-9]
    return ticks


def percentile_chart(series, title):
    """
    series: [{label, points: [[share, us], …]}]; latency over percentiles, both logarithmic:
    each step to the right is ten times rarer.
    """
    width, height, left, right, top, bottom = 720, 330, 66, 18, 14, 46
    series = [s for s in series if len(s['points']) >= 2]
    if not series:
        return ''
    values = [us for s in series for _, us in s['points'] if us > 0] or [1]
    low, high = min(values) / 1.25, max(values) * 1.25
    if high / low < 4:
        low, high = low / 2, high * 2
    rarest = max(1.0, max(nines(s['points'][-1][0]) for s in series))

    def x(share):
        return left + min(nines(share), rarest) / rarest * (width - left - right)

    def y(us):
        at = (math.log10(max(us, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return height - bottom - at * (height - top - bottom)

    out = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
           f'aria-label="{esc(title)}">']
    for tick in decade_ticks(low, high):
        out.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" '
                   f'y2="{y(tick):.1f}"/><text class="tick" text-anchor="end" x="{left - 8}" '
                   f'y="{y(tick) + 4:.1f}">{esc(micros(tick))}</text>')
    for share, text in ((0.5, '50 %'), (0.9, '90 %'), (0.99, '99 %'), (0.999, '99.9 %'),
                        (0.9999, '99.99 %'), (0.99999, '99.999 %'), (0.999999, '99.9999 %'),
                        (0.9999999, '99.99999 %')):
        if nines(share) > rarest + 0.01:
            break
        out.append(f'<line class="grid" x1="{x(share):.1f}" x2="{x(share):.1f}" y1="{top}" '
                   f'y2="{height - bottom}"/><text class="tick" text-anchor="middle" '
                   f'x="{x(share):.1f}" y="{height - bottom + 18}">{text}</text>')
    out.append(f'<text class="axis" text-anchor="middle" x="{(left + width - right) / 2:.0f}" '
               f'y="{height - 8}">percentile</text>')
    for at, s in enumerate(series):
        path = ' '.join(f'{"M" if n == 0 else "L"}{x(share):.1f} {y(us):.1f}'
                        for n, (share, us) in enumerate(s['points']))
        out.append(f'<path class="line s{at % 4}" d="{path}"/>')
    # the legend, where both kinds of curve are low
    for at, s in enumerate(series):
        ly = top + 16 + at * 20
        out.append(f'<line class="line s{at % 4}" x1="{left + 14}" x2="{left + 42}" y1="{ly}" '
                   f'y2="{ly}"/><text class="legend" x="{left + 50}" y="{ly + 4}">'
                   f'{esc(s["label"])}</text>')
    out.append('</svg>')
    return ''.join(out)


def nines(share):
    """0.9 -> 1, 0.99 -> 2, …"""
    return -math.log10(max(1 - share, 1e-9))


def bar_chart(rows, unit, title):
    """
    rows: [{label, value, low, high, kind, mark}]: bars from 0, the spread of the runs as a
    whisker, mark (a target) as a line.
    """
    width, left, right, each = 720, 190, 110, 34
    height = len(rows) * each + 12
    most = max([max(r['value'], r['high'], r.get('mark') or 0) for r in rows] + [1e-12])

    def x(value):
        return left + value / most * (width - left - right)

    out = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
           f'aria-label="{esc(title)}">']
    for at, r in enumerate(rows):
        top = 6 + at * each
        middle = top + each / 2
        out.append(f'<text class="label" text-anchor="end" x="{left - 10}" y="{middle + 4:.1f}">'
                   f'{esc(r["label"])}</text>'
                   f'<rect class="bar {r["kind"]}" x="{left}" y="{top + 7}" rx="3" '
                   f'width="{max(x(r["value"]) - left, 1):.1f}" height="{each - 14}"/>')
        if r['high'] > r['low']:
            a, b = x(r['low']), x(r['high'])
            out.append(f'<path class="whisker" d="M{a:.1f} {middle - 5:.1f}V{middle + 5:.1f}'
                       f'M{a:.1f} {middle:.1f}H{b:.1f}M{b:.1f} {middle - 5:.1f}'
                       f'V{middle + 5:.1f}"/>')
        if r.get('mark'):
            out.append(f'<line class="mark" x1="{x(r["mark"]):.1f}" x2="{x(r["mark"]):.1f}" '
                       f'y1="{top + 2}" y2="{top + each - 2}"/>')
        end = max(x(r['value']), x(r['high']), x(r.get('mark') or 0))
        out.append(f'<text class="value" x="{end + 8:.1f}" y="{middle + 4:.1f}">'
                   f'{esc(micros(r["value"]) if unit == "us" else number(r["value"]) + " " + unit)}'
                   '</text>')
    out.append('</svg>')
    return ''.join(out)


def range_chart(rows, title):
    """rows: [{label, points: [us, …], text}]: times over a logarithmic scale, a dot at the first
    (the median) and a line to the last, with small marks at those between."""
    width, left, right, each, bottom = 720, 190, 110, 26, 26
    rows = [r for r in rows if r['points'] and r['points'][0] > 0]
    if not rows:
        return ''
    low = min(r['points'][0] for r in rows) / 1.6
    high = max(max(r['points']) for r in rows) * 1.2
    height = len(rows) * each + bottom

    def x(us):
        at = math.log10(max(us, low) / low) / math.log10(high / low)
        return left + at * (width - left - right)

    out = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
           f'aria-label="{esc(title)}">']
    for tick in decade_ticks(low, high):
        if abs(math.log10(tick) - round(math.log10(tick))) > 1e-9:
            continue
        out.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" '
                   f'y2="{height - bottom + 4}"/><text class="tick" text-anchor="middle" '
                   f'x="{x(tick):.1f}" y="{height - 6}">{esc(micros(tick))}</text>')
    for at, r in enumerate(rows):
        y = at * each + each / 2
        points = [x(us) for us in r['points'] if us > 0]
        out.append(f'<text class="label" text-anchor="end" x="{left - 10}" y="{y + 4:.1f}">'
                   f'{esc(r["label"])}</text><line class="span" x1="{points[0]:.1f}" '
                   f'x2="{points[-1]:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out += [f'<circle class="dot" cx="{p:.1f}" cy="{y:.1f}" r="{5 if n == 0 else 2.5}"/>'
                for n, p in enumerate(points)]
        out.append(f'<text class="value" x="{points[-1] + 9:.1f}" y="{y + 4:.1f}">'
                   f'{esc(r["text"])}</text>')
    out.append('</svg>')
    return ''.join(out)


def bullet(ratio, target, better, met):
    """A ratio beside its target, small, for a table."""
    if ratio is None or not target:
        return ''
    width, height = 120, 16
    most = max(target * 1.5, min(ratio * 1.1, target * 3))
    end = min(ratio / most, 1) * width
    mark = target / most * width
    # the side on which it is met
    good = (0, mark) if better == 'lower' else (mark, width - mark)
    return (f'<svg class="bullet" viewBox="0 0 {width} {height}" role="img" aria-label="ratio '
            f'{plain(ratio)}, target {plain(target)}">'
            f'<rect class="track" width="{width}" height="{height}" rx="3"/>'
            f'<rect class="good" x="{good[0]:.1f}" width="{good[1]:.1f}" height="{height}" rx="3"/>'
            f'<rect class="bar {"met" if met else "missed"}" y="5" width="{end:.1f}" height="6" '
            f'rx="2"/><line class="mark" x1="{mark:.1f}" x2="{mark:.1f}" y1="1" '
            f'y2="{height - 1}"/></svg>')
