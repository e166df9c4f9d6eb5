import { parse } from 'yaml';
import type { HostConnection } from '../hosts/contract.ts';
import { componentTable } from '../plan/components.ts';
import { counted } from '../plan/counted.ts';
import type { ConfigFact } from '../plan/facts.ts';
import { controlSuccessor } from '../plan/quorum.ts';
import { readVersion } from './facts.ts';
import { helmBinary, lastLines, noHelm } from './helm.ts';
import { etcdDirectoryOf, knock, opensWithApply } from './preflight-masters.ts';
import { checkRsync } from './preflight-rsync.ts';
import type { Check, Finding, World } from './preflight-world.ts';
import { askMachines } from './preflight-world.ts';
import { bootId } from './systemd.ts';

/** Checks that ask the machines themselves. */
export const hostChecks: readonly Check[] = [
  { name: 'ssh', run: checkSsh },
  { name: 'clock', run: checkClocks },
  { name: 'ports', run: checkPorts },
  { name: 'package-version', run: checkPackageVersions },
  { name: 'rsync', run: checkRsync },
  { name: 'new-machines', run: checkNewMachines },
  { name: 'runtime-units', run: checkRuntimeUnits },
  { name: 'worker', run: checkWorker },
  { name: 'proton-cli', run: checkTool },
  { name: 'helm', run: checkHelm },
  { name: 'namespace-file', run: checkNamespaceFile },
  { name: 'control-files', run: checkControlFiles },
  { name: 'kubeadm-config', run: checkKubeadmConfig },
  { name: 'chart-versions', run: checkChartVersions },
];

const short = 30_000;

async function checkSsh(world: World): Promise<Finding> {
  const names = world.machines.map((host) => host.name);
  const failures = await askMachines(world, names, async (connection, name) => {
    const result = await connection.run(['id', '-u'], { timeout: short });
    if (result.code !== 0) return `${name}: ${lastLines(result.stderr, 1)}`;
    return result.stdout.trim() === '0' ? undefined : `${name}: user ${connection.host.user} is not root`;
  });
  return {
    failures,
    next: "compare host keys and authorized_keys with the plan and the worker's key (FERRY_SSH_IDENTITY, FERRY_KNOWN_HOSTS)",
    proof: `${counted(names.length, 'machine')} reached as root, with the pinned host keys`,
  };
}

/** Seconds that a machine's clock is ahead of this one, the time of the question taken into account. */
async function clockOffset(connection: HostConnection, now: () => number): Promise<number> {
  const before = now();
  const result = await connection.run(['date', '+%s.%N'], { timeout: short });
  const after = now();
  const there = Number(result.stdout.trim());
  if (result.code !== 0 || !Number.isFinite(there)) throw new Error(`date answered ${lastLines(result.stderr, 1)}`);
  return there - (before + after) / 2000;
}

/** Nodes that the plan leaves alone: every apply works on them as well. */
async function otherNodes(world: World): Promise<ConfigFact['nodes']> {
  const { config } = await world.cluster();
  return config.nodes.filter(({ name }) => !world.machines.some((machine) => machine.name === name));
}

const allowedSkewSeconds = 30;

async function checkClocks(world: World): Promise<Finding> {
  const offsets = new Map<string, number>();
  const ask = (nodes: readonly { name: string }[]): Promise<string[]> =>
    askMachines(
      world,
      nodes.map(({ name }) => name),
      async (connection, name) => {
        offsets.set(name, await clockOffset(connection, () => world.time.now()));
        return undefined;
      },
    );
  const failures = await ask(world.machines);
  // A plan need not say how to reach them.
  const unseen = await ask(await otherNodes(world));
  const { controlHost } = world.plan.platform;
  const reference = offsets.get(controlHost) ?? 0;
  const apart = (name: string, offset: number, other: string, base: number): void => {
    const skew = offset - base;
    if (Math.abs(skew) < allowedSkewSeconds) return;
    failures.push(
      `${name} is ${Math.abs(skew).toFixed(0)} s ${skew > 0 ? 'ahead of' : 'behind'} ${other}; the node agents refuse beyond a minute`,
    );
  };
  for (const [name, offset] of offsets) apart(name, offset, controlHost, reference);
  // Each near the control host, and yet far from each other: they talk to each other as well.
  const [first, ...others] = [...offsets].toSorted(([, one], [, other]) => one - other);
  const last = others.at(-1) ?? first;
  if (first !== undefined && last !== undefined && failures.length === 0) apart(last[0], last[1], first[0], first[1]);
  const largest = first === undefined || last === undefined ? 0 : last[1] - first[1];
  return {
    failures,
    warnings: unseen.map((why) => `the clock of a node that stays was not looked at: ${why}`),
    next: 'chronyc makestep; timedatectl on these machines',
    proof: `clocks are at most ${largest.toFixed(1)} s apart`,
  };
}

const agentPorts = [
  { port: 9202, what: 'ECMS' },
  { port: 9547, what: 'SLB manager' },
];

/**
 * The platform's agents, as the machines reach them where proton-cli runs: the control host, and the master that follows it when it leaves.
 * That one applies last, past the point of no return, to the machines that stay.
 * Whether a firewall keeps it out until then, the machine itself is asked: of nodes that the plan does not know, only the control host knows.
 */
async function checkPorts(world: World): Promise<Finding> {
  const { plan, machines } = world;
  const { controlHost } = plan.platform;
  const successor = plan.controlPlane === undefined ? undefined : controlSuccessor(plan);
  const others = (await otherNodes(world)).flatMap(({ name, ip4 }) =>
    ip4 === undefined ? [] : [{ name, address: ip4 }],
  );
  const all = [...machines, ...others];
  const stay = all.filter(
    ({ name }) => plan.hosts.some((host) => host.name === name) && !plan.nodes.remove.includes(name),
  );
  const closed: string[] = [];
  const askers = successor === undefined ? [controlHost] : [controlHost, successor];
  const failures = await askMachines(world, askers, async (connection, asker) => {
    const ends = (asker === controlHost ? all : stay).flatMap(({ name, address }) =>
      agentPorts.map(({ port, what }) => ({ name, port, what, end: `${address}:${port}` })),
    );
    const doors = await knock(
      connection,
      ends.map(({ end }) => end),
    );
    for (const { name, port, what, end } of ends) {
      if (doors.get(end) === 'open') continue;
      const isNew = asker !== controlHost && doors.get(end) !== 'refused';
      if (isNew && (await opensWithApply(world, name, connection.host.address))) continue;
      closed.push(`${what} on ${name} does not answer on port ${port} from ${asker}`);
    }
    return undefined;
  });
  return {
    failures: [...failures, ...closed],
    next: 'systemctl status ecms proton_slb_manager on these machines; open 9202/tcp and 9547/tcp between the nodes',
    proof: `9202 and 9547 open on ${counted(all.length, 'machine')}, asked from ${askers.join(' and ')}`,
  };
}

async function checkPackageVersions(world: World): Promise<Finding> {
  const versions = new Map<string, string>();
  const { controlHost } = world.plan.platform;
  const failures = await askMachines(
    world,
    world.machines.map((host) => host.name),
    async (connection, name) => {
      const version = await readVersion(connection);
      if (version === undefined) return `${name} has no dependency package (/usr/local/share/proton-version.txt)`;
      versions.set(name, version);
      return undefined;
    },
  );
  const wanted = versions.get(controlHost);
  for (const [name, version] of versions) {
    if (wanted !== undefined && version !== wanted)
      failures.push(`${name} has ${version}, ${controlHost} has ${wanted}`);
  }
  return {
    failures,
    next: 'install the same dependency package on these machines: install_deps.sh --hosts NAME',
    proof: wanted ?? 'none',
  };
}

async function checkNewMachines(world: World): Promise<Finding> {
  const { config, document } = await world.cluster();
  const traces = [
    '/etc/kubernetes/kubelet.conf',
    '/etc/kubernetes/manifests/kube-apiserver.yaml',
    ...new Set(['/var/lib/etcd', etcdDirectoryOf(document)].map((directory) => `${directory}/member`)),
  ];
  const joining = world.plan.nodes.add
    .map((node) => node.name)
    .filter((name) => !config.nodes.some((node) => node.name === name));
  const failures = await askMachines(world, joining, async (connection, name) => {
    const script = 'for f in "$@"; do if [ -e "$f" ]; then echo "$f"; fi; done';
    const left = (await connection.run(['sh', '-c', script, 'sh', ...traces], { timeout: short })).stdout
      .trim()
      .split('\n')
      .filter(Boolean);
    return left.length === 0 ? undefined : `${name} has leftovers of a cluster: ${left.join(', ')}`;
  });
  return {
    failures,
    next: 'kubeadm reset --force on these machines, after looking at what they were',
    proof: joining.length === 0 ? 'no machine has to join' : `${joining.join(', ')} never joined a cluster`,
  };
}

async function checkRuntimeUnits(world: World): Promise<Finding> {
  const { plan } = world;
  const missing = new Map<string, string[]>();
  const failures = await askMachines(world, world.newNames, async (connection, name) => {
    const units = ['kubelet.service', `${plan.platform.containerRuntime}.service`, 'docker.service'];
    const result = await connection.run(['systemctl', 'show', '--property=Id,LoadState', '--', ...units], {
      timeout: short,
    });
    const loaded = result.stdout
      .split('\n\n')
      .flatMap((block) => (block.includes('LoadState=loaded') ? [/^Id=(.*)$/m.exec(block)?.[1]] : []));
    const absent = units.filter((unit) => !loaded.includes(unit));
    missing.set(name, absent);
    const needed = absent.filter((unit) => unit !== 'docker.service' || plan.platform.containerRuntime === 'docker');
    return needed.length === 0 ? undefined : `${name} has no ${needed.join(', ')}`;
  });
  const withoutDocker = [...missing].filter(
    ([, units]) => units.includes('docker.service') && plan.platform.containerRuntime !== 'docker',
  );
  return {
    failures,
    warnings: withoutDocker.map(
      ([name]) => `${name} has no docker.service, which the platform enables wherever cr.local is used`,
    ),
    next: 'install the dependency package there: install_deps.sh --hosts NAME --container-runtime …',
    proof: `kubelet and ${plan.platform.containerRuntime} on ${world.newNames.join(', ')}`,
  };
}

/** A worker that reboots its own machine ends itself in the window; every machine has a boot id of its own. */
async function checkWorker(world: World): Promise<Finding> {
  const { hosts, restart } = world.plan.hostServices;
  if (restart !== 'reboot' || hosts.length === 0) return { proof: 'no machine is rebooted' };
  if (world.workerBootId === undefined) return { proof: 'the worker asks this itself when the migration begins' };
  const own = await world.workerBootId();
  if (own === undefined) {
    return {
      warnings: [`the worker does not know the boot id of its machine; ${hosts.join(', ')} will be rebooted`],
      next: 'see that the worker runs on none of these machines',
    };
  }
  const failures = await askMachines(world, hosts, async (connection, name) =>
    (await bootId(connection)) === own ? `the worker runs on ${name}, which the plan reboots` : undefined,
  );
  return {
    failures,
    next: 'run the worker on a machine that is not part of the migration, or plan with hostServices.restart: start',
    proof: `the worker runs on none of ${hosts.join(', ')}, which are rebooted`,
  };
}

/** Components that are Helm releases are uninstalled with it, in the middle of the window. */
async function checkHelm(world: World): Promise<Finding> {
  const releases = world.plan.components.filter(({ kind }) => componentTable[kind].workload.type === 'helm');
  if (releases.length === 0) return { proof: 'no component of the plan is a Helm release' };
  const control = await world.connect(world.plan.platform.controlHost);
  const binary = await helmBinary(control);
  const { name } = control.host;
  return {
    failures:
      binary === undefined
        ? [
            `there is no Helm 3 on ${name}: ${noHelm}; ${counted(releases.length, 'component')} could not be uninstalled`,
          ]
        : [],
    next: `put helm3 on the PATH of ${name}, as a command over ssh sees it: ssh ${name} helm3 version`,
    proof: `${binary ?? 'none'} on ${name}`,
  };
}

async function checkTool(world: World): Promise<Finding> {
  const { platform } = world.plan;
  const control = await world.connect(platform.controlHost);
  const help = await control.run([platform.protonCli, 'apply', '--help'], {
    cwd: platform.packageDirectory,
    env: { HOME: platform.home },
    timeout: 60_000,
  });
  const text = `${help.stdout}\n${help.stderr}`;
  if (help.code !== 0 || !/--file\b/.test(text)) {
    return {
      failures: [
        `"${platform.protonCli} apply --help" in ${platform.packageDirectory} on ${control.host.name} ended with ${help.code ?? 'a signal'}: ${lastLines(help.stderr)}`,
      ],
      next: 'correct platform.protonCli and platform.packageDirectory (ferry plan --package DIR)',
    };
  }
  return { proof: `apply takes --file${/(^|\s)-p\b/m.test(text) ? ' and -p (not used)' : ''}` };
}

async function checkNamespaceFile(world: World): Promise<Finding> {
  const { platform } = world.plan;
  const control = await world.connect(platform.controlHost);
  const file = `${platform.home}/.proton-cli.yaml`;
  const content = (await control.readFile(file))?.toString('utf8');
  const next = `correct ${file} on ${control.host.name}: resource_namespace: ${platform.resourceNamespace}, proton_cli_config_namespace: ${platform.configNamespace}`;
  const defaults = { proton_cli_config_namespace: 'proton', resource_namespace: 'resource' };
  const fields = content === undefined ? defaults : fieldsOf(content, defaults);
  const failures: string[] = [];
  // A file without the key makes the tool look nowhere, and then install a new cluster.
  const config = fields['proton_cli_config_namespace'] ?? '';
  if (config !== platform.configNamespace) {
    failures.push(
      `it makes proton-cli look for the configuration in namespace "${config}", not in ${platform.configNamespace}`,
    );
  }
  const resource = fields['resource_namespace'];
  if (resource !== undefined && resource !== platform.resourceNamespace) {
    failures.push(`it names the resource namespace "${resource}", not ${platform.resourceNamespace}`);
  }
  return { failures, next, proof: content === undefined ? `${file} does not exist: defaults` : `${file} fits` };
}

function fieldsOf(content: string, defaults: Record<string, string>): Record<string, string | undefined> {
  try {
    const value: unknown = parse(content, { schema: 'failsafe' });
    return typeof value === 'object' && value !== null ? (value as Record<string, string>) : {};
  } catch {
    // The tool takes its defaults when the file does not parse.
    return defaults;
  }
}

async function checkControlFiles(world: World): Promise<Finding> {
  const { platform } = world.plan;
  const { config } = await world.cluster();
  const control = await world.connect(platform.controlHost);
  const needed = [
    `${platform.home}/.kube/config`,
    '/etc/kubernetes/admin.conf',
    `${platform.packageDirectory}/service-package/charts`,
    `${platform.packageDirectory}/service-package/images`,
    ...(config.registryHosts.length === 0 ? [] : ['/etc/proton-cr/proton-cr.yaml']),
  ];
  const script = 'for f in "$@"; do if ! [ -r "$f" ]; then echo "$f"; fi; done';
  const result = await control.run(['sh', '-c', script, 'sh', ...needed], { timeout: short });
  const missing = result.stdout.split('\n').filter((line) => line !== '');
  return {
    failures: missing.map((file) => `${file} is missing on ${control.host.name}`),
    next: 'proton-cli needs these files there; it fails half-way without them',
    proof: `${counted(needed.length, 'file')} that proton-cli needs on ${control.host.name}`,
  };
}

async function checkKubeadmConfig(world: World): Promise<Finding> {
  const { config } = await world.cluster();
  const first = config.masters[0] ?? world.plan.platform.controlHost;
  if (world.plan.nodes.add.length === 0) return { proof: 'no node is added' };
  const connection = await world.connect(first);
  const found = await connection.run(['test', '-r', '/tmp/kubeadm-config.yaml'], { timeout: short });
  return {
    failures:
      found.code === 0
        ? []
        : [`/tmp/kubeadm-config.yaml is missing on ${first}, the first of cs.master: no node can join`],
    next: `on ${first}: kubectl -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' > /tmp/kubeadm-config.yaml`,
    proof: `/tmp/kubeadm-config.yaml on ${first}`,
  };
}

async function checkChartVersions(world: World): Promise<Finding> {
  const { platform } = world.plan;
  const { components } = await world.cluster();
  const control = await world.connect(platform.controlHost);
  const listing = await control.run(['ls', '-1', `${platform.packageDirectory}/service-package/charts`], {
    timeout: short,
  });
  if (listing.code !== 0) {
    return {
      failures: [lastLines(listing.stderr, 1)],
      next: 'correct platform.packageDirectory (ferry plan --package DIR)',
    };
  }
  const charts = chartVersions(listing.stdout.split('\n'));
  const failures: string[] = [];
  const warnings: string[] = [];
  if (!charts.has('component-manage')) failures.push('no chart component-manage: proton-cli crashes after the nodes');
  for (const { kind } of world.plan.components) {
    const { chart } = componentTable[kind];
    const version = charts.get(chart);
    const recorded = components.find((component) => component.kind === kind)?.recorded?.version?.split('+')[0];
    if (version === undefined) failures.push(`no chart ${chart}: ${kind} would silently not be reinstalled`);
    else if (recorded !== undefined && compareVersions(version, recorded) < 0) {
      failures.push(
        `chart ${chart} is ${version}, older than the recorded ${recorded}: ${kind} would silently not be reinstalled`,
      );
    } else if (recorded !== undefined && compareVersions(version, recorded) > 0) {
      warnings.push(`${kind} would be upgraded from chart ${recorded} to ${version}`);
    }
  }
  return {
    failures,
    warnings,
    next: 'use the dependency package of the installed version: ferry plan --package DIR',
    proof: `charts for ${counted(world.plan.components.length, 'component')}, none older than recorded`,
  };
}

/** Versions by chart of files `<chart>-<version>.tgz`; of several, the newest. */
export function chartVersions(files: readonly string[]): Map<string, string> {
  const versions = new Map<string, string>();
  for (const file of files) {
    const match = /^(?<chart>.+?)-(?<version>v?\d+\.\d+.*)\.tgz$/.exec(file.trim())?.groups;
    const chart = match?.['chart'];
    const version = match?.['version'];
    if (chart === undefined || version === undefined) continue;
    const before = versions.get(chart);
    if (before === undefined || compareVersions(version, before) > 0) versions.set(chart, version);
  }
  return versions;
}

/** Order of two versions by semantic versioning; build metadata does not count. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => {
    const [core = '', ...rest] = (version.replace(/^v/, '').split('+')[0] ?? '').split('-');
    return { core: core.split('.').map(Number), pre: rest.join('-').split('.').filter(Boolean) };
  });
  if (left === undefined || right === undefined) return 0;
  for (let index = 0; index < 3; index += 1) {
    const difference = (left.core[index] ?? 0) - (right.core[index] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  if (left.pre.length === 0 || right.pre.length === 0) return Math.sign(right.pre.length - left.pre.length);
  for (let index = 0; index < Math.max(left.pre.length, right.pre.length); index += 1) {
    const [x, y] = [left.pre[index], right.pre[index]];
    if (x === undefined) return -1;
    if (y === undefined) return 1;
    if (x === y) continue;
    const numeric = [x, y].map((part) => /^\d+$/.test(part));
    if (numeric[0] && numeric[1]) return Math.sign(Number(x) - Number(y));
    if (numeric[0] !== numeric[1]) return numeric[0] ? -1 : 1;
    return x < y ? -1 : 1;
  }
  return 0;
}
