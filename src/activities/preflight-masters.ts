import { X509Certificate } from 'node:crypto';
import { parse } from 'yaml';
import type { HostConnection } from '../hosts/contract.ts';
import type { Plan } from '../plan/plan.ts';
import { awaySteps, controlSuccessor, exchangeOf, packageService, quorumSequence } from '../plan/quorum.ts';
import { formatBytes } from '../plan/amounts.ts';
import { counted } from '../plan/counted.ts';
import { measureFreeSpace } from './directories.ts';
import { hasStaticControlPlane } from './facts.ts';
import { lastLines } from './helm.ts';
import { tryScript } from './host-script.ts';
import { listeningPorts } from './kubelet.ts';
import type { Check, Door, Finding, World } from './preflight-world.ts';
import { askMachines } from './preflight-world.ts';

/** Where the control plane is; and, where it runs on the nodes themselves, whether its masters can be exchanged. */
export function masterChecks(plan: Pick<Plan, 'controlPlane'>): Check[] {
  const where = { name: 'control-plane', run: checkPlace };
  if (plan.controlPlane === undefined) return [where];
  return [
    where,
    { name: 'quorum', run: checkQuorum },
    { name: 'etcd-members', run: checkMembers },
    { name: 'api-servers', run: checkServers },
    { name: 'master-ports', run: checkMasterPorts },
    { name: 'free-ports', run: checkFreePorts },
    { name: 'certificates', run: checkCertificates },
    { name: 'etcd-room', run: checkRoom },
    { name: 'package-moves', run: checkPackage },
  ];
}

const short = 30_000;

function mastersOf({ plan }: World): string[] {
  return plan.controlPlane?.masters ?? [];
}

/** Masters that the plan adds and that are no nodes yet. */
async function joiningOf(world: World): Promise<string[]> {
  const { config } = await world.cluster();
  return world.plan.nodes.add
    .filter(({ name, controlPlane }) => controlPlane && !config.nodes.some((node) => node.name === name))
    .map(({ name }) => name);
}

/** A plan of the wrong kind would leave members of etcd behind, or look for some that are not there. */
async function checkPlace(world: World): Promise<Finding> {
  const { plan } = world;
  const { config } = await world.cluster();
  const planned = mastersOf(world);
  const reachable = config.masters.filter((name) => plan.hosts.some((host) => host.name === name));
  const stacked: string[] = [];
  const elsewhere: string[] = [];
  const failures = await askMachines(world, reachable, async (connection, name) => {
    ((await hasStaticControlPlane(connection)) ? stacked : elsewhere).push(name);
    return undefined;
  });
  const unplanned = stacked.filter((name) => !planned.includes(name)).toSorted();
  const gone = planned.filter(
    (name) => !stacked.includes(name) && (elsewhere.includes(name) || !reachable.includes(name)),
  );
  if (unplanned.length > 0) {
    failures.push(`${unplanned.join(', ')}: etcd and API server run there, which the plan does not know`);
  }
  if (gone.length > 0) failures.push(`${gone.join(', ')}: a master of the plan, but no etcd and API server run there`);
  return {
    failures,
    next: 'ferry plan makes a plan that fits the control plane as it is now; what the tool removes without it stays a member of etcd',
    proof:
      planned.length === 0
        ? 'no etcd and no API server on the nodes of the plan'
        : `etcd and API server on ${planned.join(', ')}`,
  };
}

function checkQuorum({ plan }: World): Promise<Finding> {
  const exchange = exchangeOf(plan);
  if (exchange === undefined || plan.controlPlane === undefined) return Promise.resolve({});
  const steps = quorumSequence(exchange);
  const away = awaySteps(plan);
  const bare = [
    ...steps
      .filter(({ spare }) => spare < 1)
      .map(({ step, members, quorum }) => `${step}: ${counted(members.length, 'member')}, all ${quorum} must answer`),
    ...away
      .filter(({ spare }) => spare < 1)
      .map(
        ({ step, members, quorum }) =>
          `${step}: all others of ${counted(members.length, 'member')} must answer, quorum ${quorum}`,
      ),
  ];
  const accepted = plan.controlPlane.withoutSpare === 'accept';
  const spares = [...steps, ...away].map(({ spare }) => spare);
  return Promise.resolve({
    failures: accepted ? [] : bare.map((clause) => `${clause}: the loss of one stops the API`),
    warnings: accepted ? bare.map((clause) => `${clause}; the plan accepts it`) : [],
    next: accepted
      ? 'have the consoles of these masters at hand while they are exchanged'
      : 'let more masters join before the first leaves (nodes.add), start host services instead of rebooting (hostServices.restart: start), or accept these moments: controlPlane.withoutSpare: accept, then: ferry plan --seal FILE',
    proof: `${steps.map(({ members }) => members.length).join(' → ')} members, quorum ${steps.map(({ quorum }) => quorum).join(' → ')}; at least ${Math.min(...spares)} may be lost at every moment`,
  });
}

async function checkMembers(world: World): Promise<Finding> {
  const masters = mastersOf(world);
  const via = world.plan.hosts.filter(({ name }) => masters.includes(name));
  const { members, askedOf } = await world.listMembers({ via });
  const names = members.map(({ name }) => name);
  const failures = [
    ...masters.filter((name) => !names.includes(name)).map((name) => `${name} is no member`),
    ...members.flatMap(({ id, name, learner, healthy }) => {
      if (name === '') return [`member ${id} was added and has never started`];
      return [
        ...(masters.includes(name) ? [] : [`${name} is a member, but no master of the plan`]),
        ...(learner ? [`${name} has no vote (it is a learner)`] : []),
        ...(healthy ? [] : [`${name} is not healthy`]),
      ];
    }),
    ...(members.some(({ leader }) => leader) ? [] : ['no member leads']),
  ];
  return {
    failures,
    next: `repair these members first: etcdctl member list and endpoint status --cluster on ${askedOf}; ferry plan, if the masters have changed`,
    proof: `${names.toSorted().join(', ')}: all started, voting and healthy; ${members.find(({ leader }) => leader)?.name ?? ''} leads (asked of ${askedOf})`,
  };
}

async function checkServers(world: World): Promise<Finding> {
  const reports = await world.api.survey();
  const well = reports.filter(({ trouble }) => trouble === undefined);
  const troubles = reports
    .filter(({ trouble }) => trouble !== undefined)
    .map(({ server, trouble }) => `${server} cannot be used: ${trouble ?? ''}`);
  const next =
    'open 6443/tcp from the worker to all masters, old and new, or name servers that it can reach: FERRY_API_SERVERS=10.0.0.12,10.0.0.13';
  const joining = await joiningOf(world);
  const silent = await silentFromHere(world, joining);
  const unreached = silent.map(
    (name) => `port ${apiPort} of ${name} swallows what is sent from here, as packet filters do`,
  );
  const { remove } = world.plan.nodes;
  const leaving = new Set(
    world.plan.hosts.filter(({ name }) => remove.includes(name)).flatMap(({ name, address }) => [name, address]),
  );
  const stay = well.filter(({ server }) => !leaving.has(new URL(server).hostname.replace(/^\[(.*)\]$/, '$1')));
  if (remove.length > 0 && stay.length === 0 && silent.length === joining.length) {
    return {
      failures: [
        `every API server that answers leaves (${well.map(({ server }) => server).join(', ') || 'none'}), and no new master can be reached from here`,
        ...troubles,
        ...unreached,
      ],
      next,
    };
  }
  if (well.length < 2 || silent.length > 0) {
    return {
      warnings: [
        ...(well.length < 2
          ? [
              `the API is reached through ${well[0]?.server ?? 'no server'} alone and is lost while that machine restarts or when it leaves`,
            ]
          : []),
        ...troubles,
        ...unreached,
      ],
      next,
    };
  }
  return {
    proof: `${counted(well.length, 'API server')} answer for this cluster: ${well.map(({ server }) => server).join(', ')}`,
  };
}

/** New masters whose API will not be reached from here: nothing listens there yet, so refused is the best that can be seen. */
async function silentFromHere(world: World, joining: readonly string[]): Promise<string[]> {
  const doors = await Promise.all(
    joining.map((name) => {
      const address = world.plan.hosts.find((host) => host.name === name)?.address ?? name;
      return world.dial(address, apiPort);
    }),
  );
  return joining.filter((_name, index) => doors[index] === 'silent');
}

const etcdPorts = [2379, 2380];
const apiPort = 6443;

/** How ports answer from a machine. */
export async function knock(connection: HostConnection, ends: readonly string[]): Promise<Map<string, Door>> {
  const script =
    'for e in "$@"; do m=$(timeout 3 bash -c "exec 3<>/dev/tcp/${e%%:*}/${e##*:}" 2>&1) && echo "open $e" && continue; case $m in *refused*) echo "refused $e";; *) echo "silent $e";; esac; done';
  const result = await connection.run(['sh', '-c', script, 'sh', ...ends], {
    timeout: short + ends.length * 4000,
    env: { LC_ALL: 'C' },
  });
  if (result.code !== 0) throw new Error(`asking ports from ${connection.host.name}: ${lastLines(result.stderr, 1)}`);
  const doors = new Map<string, Door>();
  for (const [, door, end] of result.stdout.matchAll(/^(open|refused|silent) (\S+)$/gm)) {
    doors.set(end ?? '', door as Door);
  }
  return doors;
}

async function checkMasterPorts(world: World): Promise<Finding> {
  const joining = await joiningOf(world);
  const address = new Map(world.plan.hosts.map((host) => [host.name, host.address]));
  const failures: string[] = [];
  const warnings: string[] = [];
  let waiting = 0;
  let total = 0;
  const masters = mastersOf(world);
  const unreachable = await askMachines(world, joining, async (connection, name) => {
    const ends = masters.flatMap((master) =>
      [...etcdPorts, apiPort].map((port) => ({ master, port, end: `${address.get(master) ?? master}:${port}` })),
    );
    const doors = await knock(
      connection,
      ends.map(({ end }) => end),
    );
    for (const { master, port, end } of ends) {
      const door = doors.get(end) ?? 'silent';
      total += 1;
      if (door === 'open') continue;
      if (door === 'silent' && (await opensWithApply(world, master, address.get(name) ?? ''))) waiting += 1;
      else if (door === 'refused') failures.push(`nothing listens on port ${port} of ${master} (asked from ${name})`);
      else failures.push(`port ${port} of ${master} does not answer from ${name}`);
    }
    return undefined;
  });
  // Nothing listens there yet: refused is the best that can be seen. New ones are members beside each other as well.
  const back = await askMachines(world, [...masters, ...joining], async (connection, name) => {
    const ends = joining
      .filter((joined) => joined !== name)
      .flatMap((joined) =>
        [2380, apiPort].map((port) => ({ joined, port, end: `${address.get(joined) ?? joined}:${port}` })),
      );
    if (ends.length === 0) return undefined;
    const doors = await knock(
      connection,
      ends.map(({ end }) => end),
    );
    for (const { joined, port, end } of ends) {
      if ((doors.get(end) ?? 'silent') !== 'silent') continue;
      if (await opensWithApply(world, joined, address.get(name) ?? '')) continue;
      warnings.push(`port ${port} of ${joined} swallows what ${name} sends, as packet filters do`);
    }
    return undefined;
  });
  const isOwn = await leavesFirewallsAlone(world);
  return {
    failures: [...unreachable, ...back, ...failures],
    warnings: isOwn
      ? [
          ...warnings,
          'firewall.mode is usermanaged: nothing keeps a master out that died before its turn and boots again; its etcd goes on asking the members',
        ]
      : warnings,
    next: 'open 2379, 2380 and 6443/tcp between all masters, old and new (firewalls between the machines, nft list ruleset); where firewall.mode is usermanaged, keep a master that dies before its turn off the network until kubeadm reset --force was run on it',
    proof:
      joining.length === 0
        ? 'no master has to join'
        : `${total - waiting} of ${total} ports (2379, 2380, 6443) open from ${joining.join(', ')} to ${masters.join(', ')}${waiting === 0 ? '' : "; the others are behind the platform's own firewall, which the apply opens for new nodes"}`,
  };
}

/** Masters leave, and the platform does not shut them out. */
async function leavesFirewallsAlone(world: World): Promise<boolean> {
  const { document } = await world.cluster();
  const { firewall } = (parse(document, { schema: 'failsafe' }) ?? {}) as { firewall?: { mode?: unknown } | null };
  const leaves = mastersOf(world).some((name) => world.plan.nodes.remove.includes(name));
  return leaves && firewall?.mode === 'usermanaged';
}

/** The platform's firewall lets known nodes in only; the apply that adds a node makes it known. */
export async function opensWithApply(world: World, master: string, address: string): Promise<boolean> {
  const connection = await world.connect(master);
  const listed = await connection.run(['firewall-cmd', '--ipset=proton-cs-host', '--get-entries'], { timeout: short });
  return listed.code === 0 && !listed.stdout.split(/\s+/).includes(address);
}

async function checkFreePorts(world: World): Promise<Finding> {
  const joining = await joiningOf(world);
  const ports = [apiPort, ...etcdPorts, 10250, 10257, 10259];
  const failures = await askMachines(world, joining, async (connection, name) => {
    const taken = await listeningPorts(connection, ports);
    return taken.length === 0 ? undefined : `${name}: something listens on ${taken.join(', ')}`;
  });
  return {
    failures,
    next: 'ss -tlnp on these machines: end what uses the ports of a master, then: ferry check PLAN',
    proof: joining.length === 0 ? 'no master has to join' : `${ports.join(', ')} free on ${joining.join(', ')}`,
  };
}

const day = 86_400_000;

async function checkCertificates(world: World): Promise<Finding> {
  const names = mastersOf(world);
  const warnings: string[] = [];
  const failures: string[] = [];
  let earliest = Infinity;
  let seen = 0;
  const unreachable = await askMachines(world, names, async (connection, name) => {
    const certificates = await readCertificates(connection, `${world.plan.platform.home}/.kube/config`);
    if (certificates.length === 0) return `${name} has no certificate below /etc/kubernetes/pki`;
    for (const { file, end } of certificates) {
      seen += 1;
      earliest = Math.min(earliest, end);
      const left = end - world.time.now();
      const date = new Date(end).toISOString().slice(0, 16).replace('T', ' ');
      if (left <= 0) failures.push(`${file} on ${name} expired on ${date} UTC`);
      else if (left < 2 * day) failures.push(`${file} on ${name} ends on ${date} UTC, within two days`);
      else if (left < 30 * day) warnings.push(`${file} on ${name} ends on ${date} UTC`);
    }
    return undefined;
  });
  return {
    failures: [...unreachable, ...failures],
    warnings,
    next: 'kubeadm certs check-expiration and kubeadm certs renew all on these masters, one after the other, restarting its static pods',
    proof: `${counted(seen, 'certificate')} on ${names.join(', ')}; the first ends on ${Number.isFinite(earliest) ? new Date(earliest).toISOString().slice(0, 10) : '?'}`,
  };
}

/** Certificates alone: files that hold a key as well are cut down to the certificate on the machine. */
async function readCertificates(connection: HostConnection, home: string): Promise<{ file: string; end: number }[]> {
  const script = `only() { sed -n '/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p'; }
for f in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt /var/lib/kubelet/pki/kubelet-client-current.pem; do
  if [ -r "$f" ]; then echo "file $f"; only <"$f"; fi
done
for f in /etc/kubernetes/*.conf "$1"; do
  if [ -r "$f" ]; then echo "file $f"; sed -n 's/^ *client-certificate-data: *//p' "$f" | head -n 1 | tr -d '"' | base64 -d | only; fi
done`;
  const result = await tryScript(connection, script, [home], { timeout: short });
  if (result.code !== 0) throw new Error(`certificates could not be read: ${lastLines(result.stderr, 1)}`);
  const found: { file: string; end: number }[] = [];
  for (const part of result.stdout.split(/^file /m).slice(1)) {
    const file = part.slice(0, part.indexOf('\n'));
    const ends = (part.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map((pem) =>
      Date.parse(new X509Certificate(pem).validTo),
    );
    if (ends.length > 0) found.push({ file, end: Math.min(...ends) });
  }
  return found;
}

const leastRoom = 10 * 1024 ** 3;

async function checkRoom(world: World): Promise<Finding> {
  const joining = await joiningOf(world);
  const { document } = await world.cluster();
  const directory = etcdDirectoryOf(document);
  const database = await largestDatabase(world, directory);
  const needed = Math.max(leastRoom, 2 * database);
  const seen: string[] = [];
  const warnings: string[] = [];
  const failures = await askMachines(world, joining, async (connection, name) => {
    const { freeBytes, mount } = await measureFreeSpace(connection, directory);
    const text = `${name}:${mount} has ${formatBytes(freeBytes)} free`;
    if (freeBytes < needed) warnings.push(`${text}; etcd should find ${formatBytes(needed)} there`);
    else seen.push(text);
    return undefined;
  });
  return {
    failures,
    warnings,
    next: `make room in the file system of ${directory} on these machines: an etcd whose disk is full takes the API with it`,
    proof:
      joining.length === 0
        ? 'no master has to join'
        : `${seen.toSorted().join(', ')}; the database has ${formatBytes(database)}`,
  };
}

/** `cs.etcd_data_dir`, or kubeadm's own. */
export function etcdDirectoryOf(document: string): string {
  const { cs } = (parse(document, { schema: 'failsafe' }) ?? {}) as { cs?: { etcd_data_dir?: unknown } };
  const named = cs?.etcd_data_dir;
  return typeof named === 'string' && named.startsWith('/') ? named : '/var/lib/etcd';
}

async function largestDatabase(world: World, directory: string): Promise<number> {
  let largest = 0;
  await askMachines(world, mastersOf(world), async (connection) => {
    const result = await connection.run(['stat', '-c', '%s', '--', `${directory}/member/snap/db`], { timeout: short });
    const bytes = Number(result.stdout.trim());
    if (result.code === 0 && Number.isFinite(bytes)) largest = Math.max(largest, bytes);
    return undefined;
  });
  return largest;
}

function checkPackage({ plan }: World): Promise<Finding> {
  const { controlHost, packageDirectory } = plan.platform;
  if (!plan.nodes.remove.includes(controlHost)) {
    return Promise.resolve({ proof: `proton-cli goes on working on ${controlHost}` });
  }
  const successor = controlSuccessor(plan);
  if (successor === undefined) {
    return Promise.resolve({
      failures: [`${controlHost} leaves, and no new master could take over proton-cli from it`],
      next: 'add a master (nodes.add[].controlPlane: true), or keep this one',
    });
  }
  const moves = plan.transfers.some(
    ({ subject, source, destination }) =>
      subject.type === 'host-service' &&
      subject.service === packageService &&
      source.host === controlHost &&
      destination.host === successor,
  );
  return Promise.resolve({
    failures: moves
      ? []
      : [
          `${controlHost} leaves, and no transfer carries ${packageDirectory} to ${successor}, where proton-cli works afterwards`,
        ],
    next: 'ferry plan makes this transfer by itself; or add one with the service "package" by hand, then: ferry plan --seal FILE',
    proof: `${packageDirectory} goes from ${controlHost} to ${successor}`,
  });
}
