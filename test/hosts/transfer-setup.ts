import { defaultActivityInfo, MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import type { CopyChoice, PassInput, Prepared, TransferActivities } from '../../src/activities/transfer-contract.ts';
import { clockSlack } from '../../src/activities/transfer-probe.ts';
import { createTransferActivities } from '../../src/activities/transfer.ts';
import { createJobs } from '../../src/hosts/jobs.ts';
import type { HostConnection, Hosts } from '../../src/hosts/contract.ts';
import type { ReplicateInput, ReplicateRequest } from '../../src/plan/replicate.ts';
import { replicateInputSchema } from '../../src/plan/replicate.ts';
import { freshName, labHosts, machine, script } from './machines.ts';
import { describeTree } from './transfer-trees.ts';

/** Two machines and the activities of one worker. */
export interface Mover {
  hosts: Hosts;
  activities: TransferActivities;
  source: HostConnection;
  destination: HostConnection;
  request(name: string, options?: Partial<ReplicateRequest>): Promise<ReplicateInput>;
  close(): Promise<void>;
}

export async function openMover(from = 'old1', to = 'new1'): Promise<Mover> {
  const hosts = await labHosts();
  const [fromAddress, toAddress] = await Promise.all([machine(from), machine(to)]);
  const [source, destination] = await Promise.all([hosts.connect(fromAddress), hosts.connect(toAddress)]);
  return {
    hosts,
    source,
    destination,
    activities: createTransferActivities({ hosts, jobs: createJobs() }),
    request: (name, options = {}) =>
      Promise.resolve(
        replicateInputSchema.parse({
          migration: 'lab',
          transfer: {
            id: name,
            subject: { type: 'host-service', service: name },
            source: { host: from, path: `/srv/${name}` },
            destination: { host: to, path: `/srv/${name}` },
          },
          source: fromAddress,
          destination: toAddress,
          mode: 'live',
          ...options,
        }),
      ),
    close: () => hosts.close(),
  };
}

/** Runs an activity as a worker does, with an identity of its own; `run` and `id` make it a retry of another one. */
export interface Attempt {
  environment: MockActivityEnvironment;
  run<R>(activity: () => Promise<R>): Promise<R>;
  heartbeats: Record<string, unknown>[];
  /** Longest silence before a heartbeat or the end, in milliseconds. */
  silence(): number;
}

/** `heartbeatDetails`: what the try before said last. */
export function attempt(activityId = freshName('activity'), heartbeatDetails?: Record<string, unknown>): Attempt {
  const environment = new MockActivityEnvironment(
    { ...defaultActivityInfo, activityId, ...(heartbeatDetails && { heartbeatDetails }) },
    // Failures are what these tests are about; the ones that matter are in their assertions.
    { logger: new DefaultLogger('ERROR') },
  );
  const heartbeats: Record<string, unknown>[] = [];
  const times: number[] = [];
  environment.on('heartbeat', (details: Record<string, unknown>) => {
    heartbeats.push(details);
    times.push(Date.now());
  });
  return {
    environment,
    heartbeats,
    silence: () => Math.max(...times.slice(1).map((time, index) => time - (times[index] ?? time))),
    run: async (activity) => {
      times.push(Date.now());
      try {
        return await environment.run(activity);
      } finally {
        times.push(Date.now());
      }
    },
  };
}

/** Runs an activity once, with an identity of its own. */
export async function once<R>(activity: () => Promise<R>): Promise<R> {
  return attempt().run(activity);
}

export async function prepare(mover: Mover, request: ReplicateInput): Promise<Prepared> {
  return once(() => mover.activities.prepareTransfer({ request, mode: request.mode }));
}

export function pass(
  request: ReplicateInput,
  choice: CopyChoice,
  number: number,
  options: Partial<PassInput> = {},
): PassInput {
  return {
    request,
    choice,
    pass: number,
    mode: 'live',
    limitKiBps: 0,
    content: 'changed',
    expectedBytes: 0,
    ...options,
  };
}

/** Both trees as the oracle sees them. */
export async function bothTrees(mover: Mover, request: ReplicateInput): Promise<[string[], string[]]> {
  const listing = async (connection: HostConnection, path: string): Promise<string[]> =>
    (await script(connection, describeTree(path), { maxOutput: 64 * 1024 ** 2 })).split('\n').filter(Boolean);
  return Promise.all([
    listing(mover.source, request.transfer.source.path),
    listing(mover.destination, request.transfer.destination.path),
  ]);
}

/** Name that a transfer under way has on the source. */
export async function keyOf(source: HostConnection, id: string): Promise<string> {
  return (await script(source, `cd /var/lib/ferry/transfers; echo lab-${id}-*`)).trim();
}

/** Directory at the destination where the mover keeps what it knows of a transfer. */
export async function claimOf(destination: HostConnection, id: string): Promise<string> {
  return (await script(destination, `dirname "$(grep -l '"${id}"' /var/lib/ferry/destinations/*/marker.json)"`)).trim();
}

/** Lets the last pass have begun so late that nothing which is there now can have changed under it. */
export async function believeAll({ source, destination }: Mover, id: string): Promise<void> {
  const marker = `${await claimOf(destination, id)}/marker.json`;
  const text = (await destination.readFile(marker))?.toString() ?? '';
  const { base } = JSON.parse(text) as { base: { epoch: string; uptime: number } };
  // Both, or the clock would seem to have been set. All machines of the lab have one uptime.
  const late = Math.ceil(Date.now() / 1000 - Number(base.epoch)) + clockSlack + 1;
  const [whole = '0', fraction = '0'] = base.epoch.split('.');
  const epoch = `${Number(whole) + late}.${fraction}`;
  const moved = { ...(JSON.parse(text) as object), base: { ...base, epoch, uptime: base.uptime + late } };
  await destination.writeFile(marker, JSON.stringify(moved), 0o600);
  // What the pass met bears the name of its moment.
  await script(source, `cd /var/lib/ferry/sources/lab-${id}-*; mv '${base.epoch}' '${epoch}'`);
}

/** Processes on a machine that move bytes for a transfer: they name it, or stand in its directory. */
export async function movingProcesses(machine: HostConnection, request: ReplicateInput): Promise<string> {
  const { id } = request.transfer;
  return script(
    machine,
    `for pid in $(pgrep -x 'rsync|tar' || :); do
  { tr '\\0' ' ' <"/proc/$pid/cmdline"; readlink "/proc/$pid/cwd"; } 2>/dev/null | grep -qF '${id}' && echo "$pid"; done; :`,
  );
}

/** What of a transfer is left on the two machines: lines of authorized_keys, directories of the transfer, its unit. */
export async function traces(mover: Mover, request: ReplicateInput): Promise<string> {
  const left = `grep -F 'ferry:lab-${request.transfer.id}-' ~/.ssh/authorized_keys || :
ls /var/lib/ferry/transfers /var/lib/ferry/jobs 2>/dev/null | grep -F -- '${request.transfer.id}' | grep -v '[.]lock$' || :
systemctl list-units --plain --no-legend '*${request.transfer.id}*'`;
  return (await script(mover.source, left)) + (await script(mover.destination, left));
}

/** What the passes of a transfer keep on the source until its copy is proved: the directories that they met. */
export function keptLists(mover: Mover, request: ReplicateInput): Promise<string> {
  return script(mover.source, `ls /var/lib/ferry/sources 2>/dev/null | grep -F -- '${request.transfer.id}' || :`);
}

/** Removes the trees of a test, and what its transfer left behind. */
export async function sweep(mover: Mover, request: ReplicateInput): Promise<void> {
  await once(() => mover.activities.finishTransfer({ request })).catch(() => undefined);
  await script(
    mover.source,
    `touch '/run/${request.transfer.id}/end' 2>/dev/null || :; rm -rf -- '${request.transfer.source.path}' /var/lib/ferry/sources/lab-'${request.transfer.id}'-*`,
  );
  await script(mover.destination, `rm -rf -- '${request.transfer.destination.path}'`);
}
