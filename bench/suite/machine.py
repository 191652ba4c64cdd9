# SPDX-License-Identifier: Apache-2.0
"""machine.py - what was measured on: facts for the report, each a text."""
import os
import platform
import subprocess
import time


def read(path, default=''):
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            return f.read().strip()
    except OSError:
        return default


def command(*argv, cwd=None):
    try:
        r = subprocess.run(argv, capture_output=True, text=True, timeout=10, cwd=cwd, check=False)
        return r.stdout.strip() if r.returncode == 0 else ''
    except (OSError, subprocess.TimeoutExpired):
        return ''


def fields(text):
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(':')
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def cpu():
    info = fields(read('/proc/cpuinfo'))
    text = f'{info.get("model name", platform.machine())}, {os.cpu_count()} CPUs'
    if 'hypervisor' in info.get('flags', '').split():
        text += ', virtual machine'
    if 'GenuineIntel' in info.get('vendor_id', '') or info.get('model'):
        text += f' (family {info.get("cpu family", "?")}, model {info.get("model", "?")})'
    return text


def power():
    base = '/sys/devices/system/cpu'
    parts = []
    governor = read(f'{base}/cpu0/cpufreq/scaling_governor')
    if governor:
        parts.append(f'governor {governor}')
    idle = read(f'{base}/cpuidle/current_driver')
    if idle:
        parts.append(f'cpuidle {idle}')
    isolated = read(f'{base}/isolated')
    parts.append(f'isolated CPUs {isolated}' if isolated else 'no isolated CPUs')
    clock = read('/sys/devices/system/clocksource/clocksource0/current_clocksource')
    if clock:
        parts.append(f'clock {clock}')
    return ', '.join(parts)


# what of the kernel's command line bears on a measurement
TUNING = ('isolcpus', 'nohz_full', 'rcu_nocbs', 'rcu_nocb_poll', 'mitigations', 'hugepages',
          'hugepagesz', 'default_hugepagesz', 'transparent_hugepage', 'idle', 'intel_idle',
          'processor', 'intel_pstate', 'amd_pstate', 'iommu', 'intel_iommu', 'amd_iommu', 'nosmt',
          'nosoftlockup', 'nowatchdog', 'tsc', 'clocksource', 'preempt', 'irqaffinity', 'skew_tick',
          'pcie_aspm', 'numa_balancing', 'cpuidle')


def kernel_options():
    found = [word for word in read('/proc/cmdline').split()
             if word.partition('=')[0].partition('.')[0] in TUNING]
    return ' '.join(found) or 'none that bears on it'


def memory():
    info = fields(read('/proc/meminfo'))
    total = int(info.get('MemTotal', '0 kB').split()[0]) / 2**20
    thp = read('/sys/kernel/mm/transparent_hugepage/enabled')
    mode = thp[thp.find('[') + 1:thp.find(']')] if '[' in thp else 'unknown'
    return (f'{total:.1f} GiB; hugepages {info.get("HugePages_Total", "0")} of '
            f'{info.get("Hugepagesize", "?")}, {info.get("HugePages_Free", "0")} free; '
            f'transparent: {mode}')


def disk(folder):
    """The file system a folder is on, and the device below it."""
    folder = os.path.realpath(folder)
    best = ('', '', '')
    for line in read('/proc/self/mounts').splitlines():
        device, mount, kind = line.split()[:3]
        if (folder == mount or folder.startswith(mount.rstrip('/') + '/')) and \
                len(mount) >= len(best[1]):
            best = (device, mount, kind)
    text = f'{best[2] or "unknown"} on {best[0] or "unknown"}'
    number = os.stat(folder).st_dev
    node = os.path.realpath(f'/sys/dev/block/{os.major(number)}:{os.minor(number)}')
    if not os.path.isdir(f'{node}/queue'):
        node = os.path.dirname(node)
    queue = f'{node}/queue'
    if os.path.isdir(queue):
        scheduler = read(f'{queue}/scheduler')
        if '[' in scheduler:
            scheduler = scheduler[scheduler.find('[') + 1:scheduler.find(']')]
        text += (f' ({read(f"{node}/device/model") or os.path.basename(node)}; '
                 f'{"rotating" if read(f"{queue}/rotational") == "1" else "not rotating"}; '
                 f'{read(f"{queue}/write_cache") or "unknown cache"}; '
                 f'FUA {"yes" if read(f"{queue}/fua") == "1" else "no"}; '
                 f'scheduler {scheduler or "none"})')
    return text


def version(build, source):
    text = command(os.path.join(build, 'hfbus'), '--version') or 'hfbus'
    commit = command('git', 'describe', '--always', '--dirty', cwd=source)
    return f'{text}, commit {commit}' if commit else text


def facts(build, source, folder):
    return {
        'date': time.strftime('%Y-%m-%d %H:%M:%S %Z'),
        'host': platform.node(),
        'hfbus': version(build, source),
        'CPU': cpu(),
        'kernel': f'{platform.system()} {platform.release()} {platform.machine()}',
        'kernel options': kernel_options(),
        'power and clock': power(),
        'memory': memory(),
        'disk': disk(folder),
        'DPDK': command('pkg-config', '--modversion', 'libdpdk') or 'unknown',
        'liburing': command('pkg-config', '--modversion', 'liburing') or 'unknown',
        'load before': ' '.join(read('/proc/loadavg').split()[:3]),
    }
