import { readFile } from 'node:fs/promises';
import type { HostConnection, Hosts } from '../hosts/contract.ts';
import type { Host } from '../plan/plan.ts';
import type { Evidence, SystemdActivities } from './contract.ts';
import type { Deadlines } from './deadlines.ts';
import { HostUnreachable } from '../hosts/errors.ts';
import { errorText, isClassified, needsHuman, onHost, transient } from './failures.ts';
import { type CommandRunner, lastLines, localRunner } from './helm.ts';
import type { StoppedUnits } from './host-state.ts';
import { hostState, stoppedUnitsSchema } from './host-state.ts';
import { activityScope, pause, poll, whileBeating } from './polling.ts';
import { consoleOf, lookFromOutside } from './reachability.ts';

export interface SystemdDeps {
  hosts: Hosts;
  deadlines: Deadlines;
  /** Where ping runs; default: the worker. */
  local?: CommandRunner;
}

interface ServiceInput {
  migration: string;
  host: Host;
  units: string[];
}
interface UnitState {
  unit: string;
  exists: boolean;
  active: boolean;
  enabled: boolean;
}

/** containerd's containers outlive it; they have to be ended while it still answers. */
const runtime = 'containerd';
/** Milliseconds a container gets between TERM and KILL. */
const containerGrace = 10_000;

/** Host services and reboots. */
export function createSystemdActivities({ hosts, deadlines, local = localRunner }: SystemdDeps): SystemdActivities {
  return {
    stopHostServices: (input) =>
      onHost(input.host.name, 'data directories; services not stopped yet run on', () =>
        // Each question to a slow machine may take half a minute, and there are as many as units and containers.
        whileBeating({ waiting: `host services of ${input.host.name} stop` }, async () =>
          stopHostServices(await hosts.connect(input.host), input),
        ),
      ),
    startHostServices: (input) =>
      onHost(input.host.name, 'data directories', () =>
        whileBeating({ waiting: `host services of ${input.host.name} start` }, async () =>
          startHostServices(await hosts.connect(input.host), input),
        ),
      ),
    readBootId: ({ host }) => onHost(host.name, 'everything', async () => bootId(await hosts.connect(host))),
    rebootHost: (input) => rebootHost({ hosts, deadlines, local }, input),
  };
}

async function unitState(connection: HostConnection, unit: string): Promise<UnitState> {
  const result = await connection.run(
    ['systemctl', 'show', '-p', 'LoadState', '-p', 'ActiveState', '-p', 'UnitFileState', '--', unit],
    { timeout: 30_000 },
  );
  if (result.code !== 0) throw unitFailure(connection, `systemctl show ${unit}`, result.stderr);
  const field = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(result.stdout)?.[1] ?? '';
  return {
    unit,
    exists: field('LoadState') === 'loaded',
    active: ['active', 'activating', 'reloading', 'deactivating'].includes(field('ActiveState')),
    // Static units start only when something asks for them.
    enabled: ['enabled', 'enabled-runtime', 'generated'].includes(field('UnitFileState')),
  };
}

async function unitStates(connection: HostConnection, units: readonly string[]): Promise<UnitState[]> {
  const states: UnitState[] = [];
  for (const unit of units) states.push(await unitState(connection, unit));
  return states;
}

async function stopHostServices(
  connection: HostConnection,
  input: ServiceInput,
): Promise<Evidence & { stopped: string[] }> {
  const host = input.host.name;
  const existing = (await unitStates(connection, input.units)).filter(({ exists }) => exists);
  const running = existing.filter(({ active }) => active).map(({ unit }) => unit);
  const recorded = await recordStopped(connection, input.migration, running);

  const others = existing.map(({ unit }) => unit).filter((unit) => unit !== runtime);
  // All in one call: a socket that is stopped later would start its service again. Those that do not exist are left out,
  // because one of them makes the whole call fail.
  if (others.some((unit) => running.includes(unit))) await systemctl(connection, 'stop', others);
  let killed = 0;
  if (existing.some(({ unit }) => unit === runtime)) {
    killed = await endContainers(connection, running.includes(runtime));
    await systemctl(connection, 'stop', [runtime]);
  }

  const still = (await unitStates(connection, input.units)).filter(({ active }) => active).map(({ unit }) => unit);
  const shims = existing.some(({ unit }) => unit === runtime) ? await containerShims(connection) : 0;
  if (still.length > 0 || shims > 0) {
    throw needsHuman({
      what: `Host services on ${host} do not stay stopped`,
      cause: [
        ...(still.length > 0 ? [`active again: ${still.join(', ')}`] : []),
        ...(shims > 0 ? [`${shims} containers survived`] : []),
      ].join('; '),
      untouched: 'data directories; nothing was copied yet',
      next: `find out what starts them (systemctl list-dependencies --reverse ${still[0] ?? runtime}), stop it on ${host}, then: ferry resume`,
    });
  }
  return {
    changed: running.length > 0 || killed > 0,
    proof: `${recorded.join(', ') || 'no unit'} stopped on ${host}; ${killed} containers ended; no container process left`,
    stopped: recorded,
  };
}

async function recordStopped(
  connection: HostConnection,
  migration: string,
  running: readonly string[],
): Promise<string[]> {
  const { directory, stoppedUnits } = hostState(migration);
  const record = await readStopped(connection, migration);
  const known = record?.restored === false ? record.units : undefined;
  const all = [...new Set([...(known ?? []), ...running])];
  if (known !== undefined && all.length === known.length) return all;
  await connection.run(['install', '-d', '-m', '0700', '--', directory], { timeout: 30_000 });
  await writeStopped(connection, stoppedUnits, { units: all, restored: false });
  return all;
}

async function writeStopped(connection: HostConnection, file: string, record: StoppedUnits): Promise<void> {
  await connection.writeFile(file, JSON.stringify(record), 0o600);
}

async function readStopped(connection: HostConnection, migration: string): Promise<StoppedUnits | undefined> {
  const content = await connection.readFile(hostState(migration).stoppedUnits);
  return content === undefined ? undefined : stoppedUnitsSchema.parse(JSON.parse(content.toString('utf8')));
}

async function systemctl(connection: HostConnection, verb: 'stop' | 'start', units: readonly string[]): Promise<void> {
  const result = await whileBeating({ waiting: `systemctl ${verb} ${units.join(' ')}` }, () =>
    connection.run(['systemctl', verb, '--', ...units], { timeout: 300_000 }),
  );
  if (result.code !== 0) throw unitFailure(connection, `systemctl ${verb} ${units.join(' ')}`, result.stderr);
}

function unitFailure(connection: HostConnection, command: string, stderr: string): Error {
  const { name } = connection.host;
  return needsHuman({
    what: `${command} failed on ${name}`,
    cause: lastLines(stderr) || 'no message',
    untouched: 'data directories',
    next: `systemctl status and journalctl on ${name}; repair, then: ferry resume`,
  });
}

/** Ends the containers of Kubernetes, static pods included; kubelet is stopped, so nothing brings them back. */
async function endContainers(connection: HostConnection, runtimeActive: boolean): Promise<number> {
  if (!runtimeActive) {
    if ((await containerShims(connection)) === 0) return 0;
    // Containers that survived an earlier stop can only be ended through containerd.
    await systemctl(connection, 'start', [runtime]);
  }
  const before = await containerTasks(connection);
  if (before.length === 0) return 0;
  for (const task of before) await signalTask(connection, 'SIGTERM', task);
  const end = Date.now() + containerGrace;
  let left = before;
  while (left.length > 0 && Date.now() < end) {
    await pause(500);
    left = await containerTasks(connection);
  }
  for (const task of left) await signalTask(connection, 'SIGKILL', task);
  for (let look = 0; look < 20 && left.length > 0; look += 1) {
    await pause(500);
    left = await containerTasks(connection);
  }
  if (left.length > 0) {
    throw needsHuman({
      what: `Containers on ${connection.host.name} cannot be ended`,
      cause: `${left.length} still run after KILL`,
      untouched: 'data directories; nothing was copied yet',
      next: `ctr -n k8s.io task ls on ${connection.host.name}, then: ferry resume`,
    });
  }
  return before.length;
}

async function containerTasks(connection: HostConnection): Promise<string[]> {
  const result = await connection.run(['ctr', '--namespace', 'k8s.io', 'task', 'ls'], { timeout: 60_000 });
  if (result.code !== 0) throw unitFailure(connection, 'ctr task ls', result.stderr);
  return result.stdout
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(([id, , status]) => id !== undefined && id !== '' && status !== 'STOPPED')
    .map(([id]) => id ?? '');
}

async function signalTask(connection: HostConnection, signal: string, task: string): Promise<void> {
  // One that ended by itself meanwhile is what was wanted; the next listing tells.
  await connection.run(['ctr', '--namespace', 'k8s.io', 'task', 'kill', '--signal', signal, '--all', task], {
    timeout: 60_000,
  });
}

/** Processes that hold a container of Kubernetes, with or without containerd. */
async function containerShims(connection: HostConnection): Promise<number> {
  const result = await connection.run(['ps', '-eo', 'args'], { timeout: 30_000 });
  if (result.code !== 0) throw unitFailure(connection, 'ps', result.stderr);
  return result.stdout
    .split('\n')
    .filter((line) => /^\S*containerd-shim\S*\s/.test(line) && /\s-namespace k8s\.io(\s|$)/.test(line)).length;
}

async function startHostServices(connection: HostConnection, input: ServiceInput): Promise<Evidence> {
  const recorded = await readStopped(connection, input.migration);
  const states = (await unitStates(connection, input.units)).filter(({ exists }) => exists);
  const wanted = states.filter(({ unit, enabled }) =>
    recorded === undefined ? enabled : recorded.units.includes(unit),
  );
  // Against the order of stopping: the runtime before what needs it.
  const order = wanted.map(({ unit }) => unit).reverse();
  const first = order.filter((unit) => unit === runtime || unit === 'docker');
  const inOrder = [...first, ...order.filter((unit) => unit !== runtime && unit !== 'docker')];
  const idle = states.filter(({ active }) => !active).map(({ unit }) => unit);
  const started = inOrder.filter((unit) => idle.includes(unit));
  for (const unit of started) await systemctl(connection, 'start', [unit]);

  const down = (await unitStates(connection, inOrder)).filter(({ active }) => !active).map(({ unit }) => unit);
  if (down.length > 0) {
    throw unitFailure(
      connection,
      `systemctl start ${down.join(' ')}`,
      `${down.join(', ')} ended right after the start`,
    );
  }
  if (recorded?.restored === false) {
    await writeStopped(connection, hostState(input.migration).stoppedUnits, { ...recorded, restored: true });
  }
  return {
    changed: started.length > 0,
    proof: `active on ${input.host.name}: ${inOrder.join(', ') || 'no unit of the list exists or ran before'}`,
  };
}

export async function bootId(connection: HostConnection): Promise<string> {
  const result = await connection.run(['cat', '/proc/sys/kernel/random/boot_id'], { timeout: 15_000 });
  const id = result.stdout.trim();
  if (result.code !== 0 || !/^[0-9a-f-]{32,36}$/.test(id)) {
    throw unitFailure(connection, 'reading the boot id', result.stderr);
  }
  return id;
}

async function rebootHost(
  { hosts, deadlines, local }: Required<SystemdDeps>,
  input: { host: Host; bootId: string },
): Promise<Evidence> {
  const { host } = input;
  // A repeated call may come while an earlier one's reboot is under way.
  const now = await onHost(host.name, 'data directories; no other reboot was begun', async () => {
    try {
      return await bootId(await hosts.connect(host));
    } catch (error) {
      if (wasOrdered()) return undefined;
      if (error instanceof HostUnreachable) throw await unreachable(host, local, error);
      throw error;
    }
  });
  if (now !== undefined) {
    if (now !== input.bootId) return { changed: false, proof: `${host.name} already came back with boot id ${now}` };
    if (now === (await ownBootId())) {
      throw needsHuman({
        what: `${host.name} must not be rebooted by this worker`,
        cause: 'the worker runs on it',
        untouched: 'everything; nothing was rebooted',
        next: 'run the worker on a machine that is not part of the migration, then: ferry resume',
      });
    }
    await order(hosts, host);
  }
  const sightings: Sightings = { began: Date.now(), oldBoot: undefined, lastError: undefined };
  try {
    const next = await poll(
      async () => {
        try {
          const id = await bootId(await hosts.connect(host));
          // An answer with the old id comes from the boot that is just going down.
          if (id !== input.bootId) return { done: true, value: id };
          sightings.oldBoot = Date.now();
          return { done: false, waiting: `${host.name} is still in its old boot` };
        } catch (error) {
          sightings.lastError = errorText(error);
          return { done: false, waiting: `${host.name} does not answer yet` };
        }
      },
      { deadline: deadlines.reboot, interval: 2000, details: ordered },
      (waiting) => new NotBack(waiting),
    );
    const proof = `${host.name} came back with boot id ${next} instead of ${input.bootId}`;
    return { changed: now !== undefined, proof };
  } catch (error) {
    if (error instanceof NotBack) throw await notBack(host, error.message, sightings, deadlines.reboot, local);
    throw error;
  }
}

/** In every heartbeat from the order on: the next try, of another worker, waits for the machine as this one would have. */
const ordered = { ordered: true };

/** Whether an earlier try of the same call ordered the reboot, by its last heartbeat. */
function wasOrdered(): boolean {
  return (activityScope().lastSaid as Partial<typeof ordered> | undefined)?.ordered === true;
}

async function order(hosts: Hosts, host: Host): Promise<void> {
  activityScope().heartbeat({ ...ordered, waiting: `${host.name} goes down` });
  try {
    const connection = await hosts.connect(host);
    await connection.run(['systemctl', 'reboot'], { timeout: 60_000 });
  } catch (error) {
    // The connection may die before the answer arrives; the boot id tells what happened.
    if (isClassified(error)) throw error;
  }
}

class NotBack extends Error {}

/** What the looks after a reboot saw. */
interface Sightings {
  began: number;
  /** When it last answered in its old boot. */
  oldBoot: number | undefined;
  lastError: string | undefined;
}

async function notBack(
  host: Host,
  waiting: string,
  { began, oldBoot, lastError }: Sightings,
  deadline: number,
  local: CommandRunner,
): Promise<Error> {
  const { facts, alive } = await whileBeating({ ...ordered, waiting }, () => lookFromOutside(host, local));
  const after = (time: number): string => `${Math.round((time - began) / 1000)} s`;
  const seen =
    oldBoot === undefined
      ? 'it was not seen again after the reboot was ordered'
      : `it was last seen ${after(oldBoot)} after the order, in its old boot`;
  return needsHuman({
    what: `${host.name} does not come back from its reboot`,
    cause: [
      `after ${deadline / 1000} s: ${waiting}`,
      seen,
      ...facts,
      ...(lastError === undefined ? [] : [`the last try over ssh said: ${lastError}`]),
    ].join('; '),
    untouched: 'data directories; all other machines, none of which is rebooted meanwhile',
    next: `${alive ? 'it has power: look at' : 'power it on at'} ${consoleOf(host)}; when it is up: ferry resume, which does not reboot it again; if it cannot come back: ferry abort`,
  });
}

/** Asked for a reboot, or once more after one, of a machine that does not answer now. */
async function unreachable(host: Host, local: CommandRunner, error: HostUnreachable): Promise<Error> {
  const { facts } = await lookFromOutside(host, local);
  return transient(
    {
      what: `${host.name} does not answer`,
      cause: [errorText(error), ...facts].join('; '),
      untouched: 'data directories; no other reboot was begun',
      next: `it is tried again by itself; if it stays so, see ${consoleOf(host)}, power it on, then: ferry resume (or ferry abort)`,
    },
    error,
  );
}

/** Of the machine this process runs on; undefined where there is no such thing. */
export async function ownBootId(): Promise<string | undefined> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch {
    return undefined;
  }
}
