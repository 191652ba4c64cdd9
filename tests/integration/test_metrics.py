# SPDX-License-Identifier: Apache-2.0
"""
/metrics of a real bus, and those who read it.

Goal:   Prometheus takes what hfbus-control serves, and the figures are those of hfbus stat; the dashboard and the
        alert rules ask for nothing that is not there.
Method: a bus with traffic; promtool checks the text; each counter, position and histogram is compared with hfbus stat
        --json while nothing moves; a Prometheus of our own on a port of its own scrapes it.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.request

import yaml

from hfbtest import Bus, Process, Skip, main, wait_for

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:{(.*)})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def tool(name):
    path = shutil.which(name)
    if path is None:
        raise Skip(f'no {name}: apt-get install prometheus')
    return path


class Scrape:
    def __init__(self, address):
        with urllib.request.urlopen(f'http://{address}/metrics', timeout=30) as r:
            assert r.headers['Content-Type'].startswith('text/plain; version=0.0.4')
            self.text = r.read().decode()
        self.samples = {}
        self.names = set()
        for line in self.text.splitlines():
            if line.startswith('# TYPE '):
                self.names.add(line.split()[2])
            if line.startswith('#'):
                continue
            name, labels, value = SAMPLE.match(line).groups()
            key = (name, tuple(sorted(LABEL.findall(labels or ''))))
            assert key not in self.samples, f'{key} is there twice'
            self.samples[key] = float(value)

    def get(self, name, **labels):
        return self.samples[(name, tuple(sorted((k, str(v)) for k, v in labels.items())))]

    def sum(self, name, **labels):
        wanted = {(k, str(v)) for k, v in labels.items()}
        return sum(v for (n, have), v in self.samples.items() if n == name and wanted <= set(have))



def bus_with_http():
    return Bus(args=['--http', '127.0.0.1:0'])


def http_address(bus):
    """As hfbus-control tells it on control.sock: the port is any free one."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(os.path.join(bus.data, 'control.sock'))
    s.send(b'{"op":"status"}')
    address = json.loads(s.recv(65536))['http']
    s.close()
    return address


def traffic(bus):
    bus.topic_create('quotes', '--partitions', '3')
    bus.publish('quotes', range(3000))
    bus.topic_create('a.topic-of_others')
    bus.publish('a.topic-of_others', ['x' * 1000] * 50)
    r = bus.hfbus('consume', 'quotes', '--group', 'billing', '--from', 'earliest', '--count', '1000',
                  '--quiet')
    assert len(r.stdout.splitlines()) == 1000
    bus.publish('quotes', range(500))


def lag_is_known(address):
    """The first to ask has the groups' ends looked up; who asks again finds them."""
    wait_for('the lag', lambda: ('hfbus_group_lag_events' in Scrape(address).names))


def metric_name(counter):
    """The rule of control/metrics.h, written down a second time."""
    stem, total = (counter[:-6], '_total') if counter.endswith('_total') else (counter, '')
    if stem.endswith('_tsc'):
        return f'hfbus_{stem[:-4]}_seconds{total}', 'tsc'
    if stem.endswith('_ns'):
        return f'hfbus_{stem[:-3]}_seconds{total}', 1e9
    return f'hfbus_{counter}', 1


def test_promtool_and_hfbus_stat_agree_with_metrics():
    promtool = tool('promtool')
    with bus_with_http() as bus:
        traffic(bus)
        address = http_address(bus)
        lag_is_known(address)
        done = subprocess.run([promtool, 'check', 'metrics'], input=Scrape(address).text, text=True,
                              capture_output=True, timeout=60)
        assert done.returncode == 0 and not done.stderr and not done.stdout, done

        # whatever moves all the time is between two readings of hfbus stat
        before = bus.stat()
        scrape = Scrape(address)
        after = bus.stat()
        hz = next(c['value'] for c in after['counters'] if c['name'] == 'tsc_hz')
        compared = equal = 0
        for was, now in zip(before['counters'], after['counters']):
            assert (was['name'], was['labels']) == (now['name'], now['labels'])
            name, scale = metric_name(was['name'])
            scale = hz if scale == 'tsc' else scale
            value = scrape.get(name, **was['labels'])
            if was['name'] == 'ipc_clients':
                continue  # hfbus stat is one itself
            low, high = sorted((was['value'] / scale, now['value'] / scale))
            assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9), (name, was, value, now)
            compared += 1
            equal += was['value'] == now['value'] != 0
        assert compared > 70 and equal > 15, (compared, equal)
        assert scrape.sum('hfbus_append_events_total') >= 3550
        for p in after['partitions']:
            labels = {'topic': p['topic'], 'partition': p['partition']}
            if p['topic'].startswith('__'):
                continue
            for stage in ('start', 'received', 'durable', 'committed'):
                assert scrape.get(f'hfbus_partition_{stage}_offset', **labels) == \
                    p['positions'][stage]['offset'], (p, stage)
            assert scrape.get('hfbus_partition_received_bytes_total', **labels) == \
                p['positions']['received']['position']
        # stages: each event that was durable took its time
        assert scrape.sum('hfbus_stage_time_seconds_count', stage='received_durable') >= 3550
        assert scrape.sum('hfbus_stage_time_seconds_bucket', stage='received_durable', le='+Inf') == \
            scrape.sum('hfbus_stage_time_seconds_count', stage='received_durable')
        # buckets only grow with their bound
        series = {}
        for (name, labels), value in scrape.samples.items():
            if name == 'hfbus_stage_time_seconds_bucket':
                rest = tuple(x for x in labels if x[0] != 'le')
                series.setdefault(rest, []).append((float(dict(labels)['le']), value))
        for rest, buckets in series.items():
            values = [v for _, v in sorted(buckets)]
            assert values == sorted(values) and len(values) > 40, rest
        # the group has taken 1,000 of 3,500
        assert scrape.sum('hfbus_group_lag_events', group='billing') == 2500, scrape.text
        assert scrape.get('hfbus_group_members', group='billing') == 0
        assert scrape.get('hfbus_up') == 1


def test_all_queries_use_metrics_that_exist():
    promtool = tool('promtool')
    with bus_with_http() as bus:
        traffic(bus)
        lag_is_known(http_address(bus))
        names = Scrape(http_address(bus)).names
    # those of ports and feeds, which this bus has not
    with open(os.path.join(SOURCE, 'control', 'metrics_help.c'), encoding='ascii') as f:
        counters = set(re.findall(r'^\t{ "(\w+)", ', f.read(), re.M))
    names |= {metric_name(c)[0] for c in counters - {'stage_time'}}
    names |= {n + s for n in names for s in ('_bucket', '_sum', '_count')} | {'up'}

    with open(os.path.join(SOURCE, 'docs', 'grafana', 'hfbus.json'), encoding='utf-8') as f:
        dashboard = json.load(f)
    queries = [t['expr'] for p in dashboard['panels'] for t in p.get('targets', [])]
    assert len(queries) > 15
    alerts = os.path.join(SOURCE, 'docs', 'alerts.yaml')
    with open(alerts, encoding='utf-8') as f:
        rules = [r for g in yaml.safe_load(f)['groups'] for r in g['rules']]
    assert len(rules) > 10
    for query in queries + [r['expr'] for r in rules]:
        used = set(re.findall(r'\b(?:hfbus|process)_\w+', query))
        assert used and used <= names, (query, used - names)
    done = subprocess.run([promtool, 'check', 'rules', alerts], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0 and f'{len(rules)} rules found' in done.stdout, done

    # what an operator is to know: every metric and every alert is told of
    with open(os.path.join(SOURCE, 'docs', 'OPERATIONS.md'), encoding='utf-8') as f:
        operations = f.read()
    for r in rules:
        assert f'`{r["alert"]}`' in operations, f'docs/OPERATIONS.md does not know {r["alert"]}'
    for name in sorted(n for n in names if not n.endswith(('_bucket', '_sum', '_count'))):
        assert name == 'up' or f'`{name}`' in operations, f'docs/OPERATIONS.md: {name}?'


def test_a_real_prometheus_scrapes_it():
    prometheus = tool('prometheus')
    with bus_with_http() as bus:
        traffic(bus)
        target = http_address(bus)
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        config = os.path.join(bus.folder, 'prometheus.yml')
        with open(config, 'w', encoding='ascii') as f:
            f.write('global:\n  scrape_interval: 1s\n'
                    f'rule_files:\n  - {SOURCE}/docs/alerts.yaml\n'
                    'scrape_configs:\n  - job_name: hfbus\n    static_configs:\n'
                    f'      - targets: ["{target}"]\n')
        process = Process([prometheus, f'--config.file={config}',
                           f'--storage.tsdb.path={bus.folder}/prometheus',
                           f'--web.listen-address=127.0.0.1:{port}', '--log.level=warn'],
                          env=dict(os.environ, GOMAXPROCS='1'), name='prometheus')
        try:
            def query(text):
                url = f'http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(text)}'
                try:
                    with urllib.request.urlopen(url, timeout=10) as r:
                        return json.load(r)['data']['result']
                except OSError:
                    return []
            wait_for('Prometheus has scraped the bus', lambda: [
                r for r in query('up{job="hfbus"}') if r['value'][1] == '1'], timeout=90)
            [sample] = query('sum(hfbus_partition_received_offset{topic="quotes"})')
            assert float(sample['value'][1]) == 3500
            wait_for('the lag', lambda: [r for r in query('sum(hfbus_group_lag_events)')
                                         if float(r['value'][1]) == 2500])
            [sample] = query('histogram_quantile(0.99, sum by (le) '
                             '(hfbus_stage_time_seconds_bucket{stage="received_durable"}))')
            assert 0 < float(sample['value'][1]) < 60
        finally:
            process.stop()


main(globals())
