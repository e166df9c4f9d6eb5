import type { HostConnection, Hosts, Jobs } from '../hosts/contract.ts';
import type { ReplicateInput } from '../plan/replicate.ts';
import type { Evidence } from './contract.ts';
import { needsHuman } from './failures.ts';
import { parseFields, runScript } from './host-script.ts';
import { Lately } from './lately.ts';
import { whileBeating } from './polling.ts';
import type { EndFacts } from './rsync-options.ts';
import { evictWriter, revokeAccess } from './transfer-access.ts';
import type { PassInput, PassReport, Prepared, TransferActivities, Verification } from './transfer-contract.ts';
import { classify, classifyAll } from './transfer-failures.ts';
import { flushTimeout, readMarker, writeMarker } from './transfer-marker.ts';
import type { TransferNames } from './transfer-names.ts';
import { namesOf } from './transfer-names.ts';
import type { PassEnds } from './transfer-watch.ts';
import { runRsyncPass } from './transfer-pass.ts';
import { startOf } from './transfer-watch.ts';
import { prepare } from './transfer-prepare.ts';
import { digestsAreKnownFor } from './transfer-probe.ts';
import { RoadMemory } from './transfer-road.ts';
import type { TransferScope } from './transfer-scope.ts';
import { transferScope, withSteadyBeat } from './transfer-scope.ts';
import { describeUsers, usersOf } from './transfer-users.ts';
import { verifyTrees } from './transfer-verify.ts';

/** What the mover needs from the worker. */
export interface TransferDependencies {
  hosts: Hosts;
  jobs: Jobs;
}

const nothing = 'source and destination are as they were';
const kept = 'the source is untouched; the destination stays marked incomplete';

/** Activities of `replicateDirectory`. */
export function createTransferActivities({ hosts, jobs }: TransferDependencies): TransferActivities {
  const memory = { roads: new RoadMemory(), digests: new Lately<EndFacts['digests']>(() => digestsAreKnownFor) };

  async function connectBoth(request: ReplicateInput): Promise<[HostConnection, HostConnection]> {
    return Promise.all([hosts.connect(request.source), hosts.connect(request.destination)]);
  }

  async function prepareTransfer(input: { request: ReplicateInput; mode: 'live' | 'final' }): Promise<Prepared> {
    const { request } = input;
    return guarded(`${request.transfer.id} is not prepared`, nothing, async () => {
      const scope = transferScope();
      const [source, destination] = await connectBoth(request);
      return whileBeating({ step: 'looking at both machines' }, async () =>
        prepare(jobs, source, destination, request, input.mode, memory, scope.signal),
      );
    });
  }

  async function runPass(input: PassInput): Promise<PassReport> {
    const { request } = input;
    return guarded(`pass ${input.pass} of ${request.transfer.id} failed`, kept, async () => {
      return withSteadyBeat(transferScope(), async (scope) => {
        scope.heartbeat(startOf(input.pass, input.expectedBytes, scope.earlier));
        const ends = await endsOf(request);
        const names = namesOf(request, ends.destinationPath);
        return unlessAbandoned(scope, request, async () => runRsyncPass(jobs, ends, input, names, scope));
      });
    });
  }

  async function proveQuiet({ request }: { request: ReplicateInput }): Promise<Evidence> {
    const { transfer } = request;
    return guarded(`${transfer.id} is not proved quiet`, nothing, async () => {
      const [source] = await connectBoth(request);
      const users = await whileBeating({ step: 'looking who uses the source' }, async () =>
        usersOf(source, await resolved(source, transfer.source.path), 'write', transfer.source.path),
      );
      if (users.length > 0) {
        throw needsHuman({
          what: `${transfer.source.host}:${transfer.source.path} is still in use`,
          cause: describeUsers(users),
          untouched: nothing,
          next: `stop it on ${transfer.source.host}, then resume`,
        });
      }
      return {
        changed: false,
        proof: `nothing has ${transfer.source.host}:${transfer.source.path} open or mapped for writing, no container mounts it, no cron table names it`,
      };
    });
  }

  async function verifyTransfer(input: Parameters<TransferActivities['verifyTransfer']>[0]): Promise<Verification> {
    const { request } = input;
    return guarded(`${request.transfer.id} is not verified`, kept, async () =>
      withSteadyBeat(transferScope(), async (scope) => {
        const began = { ...startOf(input.pass ?? 0, 0, scope.earlier), step: 'verifying' as const };
        scope.heartbeat(began);
        const ends = await endsOf(request);
        const names = namesOf(request, ends.destinationPath);
        const { source, destination } = ends;
        await runScript(
          destination,
          'flushing the destination',
          'sync -f "$1" 2>/dev/null || sync',
          [ends.destinationPath],
          { timeout: flushTimeout },
        );
        const paths = { source: ends.sourcePath, destination: ends.destinationPath };
        return verifyTrees(source, destination, paths, request, input.choice, names, {
          signal: scope.signal,
          report: (progress) =>
            scope.heartbeat({ ...began, ...progress, bytes: Math.max(began.bytes, progress.bytes) }),
        });
      }),
    );
  }

  async function finishTransfer(input: { request: ReplicateInput; verified?: string }): Promise<Evidence> {
    const { request, verified } = input;
    return guarded(`the end of ${request.transfer.id} is not tidied up`, kept, async () => {
      const there = await whileBeating({ step: 'ending' }, async () => tidyUp(request, verified));
      return {
        changed: true,
        proof: `key and gate are gone; ${there} is ${verified === undefined ? 'incomplete' : 'verified'}`,
      };
    });
  }

  /** Each machine for itself: one that is gone must not leave a key and a writer on the other. Answers where the copy is. */
  async function tidyUp(request: ReplicateInput, verified?: string): Promise<string> {
    const { source, destination } = request.transfer;
    const [from, to] = await Promise.allSettled([tidySource(request, verified), tidyDestination(request)]);
    if (from.status === 'fulfilled' && to.status === 'fulfilled') {
      const { connection, names, path } = to.value;
      // On one machine the job needs no key, and may have begun to write again before it was ended.
      await evictWriter(connection, names);
      await markEnd(connection, names, verified);
      return `${destination.host}:${path}`;
    }
    if (to.status === 'fulfilled') await markEnd(to.value.connection, to.value.names, verified);
    const left = [
      ...(to.status === 'rejected' ? [`the key on ${destination.host}`] : []),
      ...(from.status === 'rejected' ? [`the job on ${source.host}, if it runs`] : []),
    ];
    const errors = [to, from].flatMap((end) => (end.status === 'rejected' ? [end.reason as unknown] : []));
    const done =
      to.status === 'fulfilled'
        ? `the key on ${destination.host} is gone, nothing writes there`
        : from.status === 'fulfilled'
          ? `the job on ${source.host} is ended`
          : kept;
    const what = `the end of ${request.transfer.id} is not tidied up, ${left.join(' and ')} stayed`;
    throw classifyAll(errors, what, done);
  }

  async function tidySource(request: ReplicateInput, verified?: string): Promise<void> {
    const source = await hosts.connect(request.source);
    const names = namesOf(request);
    await jobs.stop(source, names.job);
    await jobs.clear(source, names.job);
    // The next pass knows by the lists what it need not read.
    const gone = [names.directory, ...(verified === undefined ? [] : [names.lists])];
    await runScript(source, 'taking the key away', 'rm -rf -- "$@"', gone);
  }

  /** The key first: who has none cannot come back after the writer was ended. */
  async function tidyDestination(
    request: ReplicateInput,
  ): Promise<{ connection: HostConnection; names: TransferNames; path: string }> {
    const connection = await hosts.connect(request.destination);
    const path = await resolved(connection, request.transfer.destination.path);
    const names = namesOf(request, path);
    await revokeAccess(connection, names);
    await evictWriter(connection, names);
    return { connection, names, path };
  }

  async function markEnd(destination: HostConnection, names: TransferNames, verified?: string): Promise<void> {
    const marker = await readMarker(destination, names);
    // A copy that was refused before it began has taken nothing of what was proved.
    if (marker === undefined || (verified === undefined && marker.state === 'verified')) return;
    await writeMarker(destination, names, {
      ...marker,
      state: verified === undefined ? 'incomplete' : 'verified',
      ...(verified !== undefined && { digest: verified }),
    });
  }

  /** A workflow that is terminated runs no clean-up of its own. */
  async function unlessAbandoned<T>(scope: TransferScope, request: ReplicateInput, step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      if (await scope.isAbandoned().catch(() => false)) await tidyUp(request);
      throw error;
    }
  }

  async function endsOf(request: ReplicateInput): Promise<PassEnds> {
    const [source, destination] = await connectBoth(request);
    const [from, to] = await Promise.all([
      lookAtEnd(source, request.transfer.source.path),
      lookAtEnd(destination, request.transfer.destination.path),
    ]);
    return {
      source,
      destination,
      sourcePath: from.path,
      destinationPath: to.path,
      sameHost: source.host.name === destination.host.name || from.machine === to.machine,
      nestedMounts: from.nestedMounts,
    };
  }

  return { prepareTransfer, runPass, proveQuiet, verifyTransfer, finishTransfer };
}

async function resolved(connection: HostConnection, path: string): Promise<string> {
  const text = await runScript(connection, `resolving ${path}`, 'realpath -m -- "$1"', [path]);
  return text.replace(/\n$/, '');
}

const endScript = String.raw`
path=$(realpath -m -- "$1")
printf 'path=%s\n' "$path"
echo "machine=$({ cat /etc/machine-id; readlink /proc/1/ns/net /proc/1/ns/mnt; cat /proc/sys/kernel/random/boot_id; } | tr '\n' ' ')"
echo "nested=$(cut -d" " -f5 /proc/self/mountinfo | grep -cF -- "$path/")"
`;

/** Where a path really is, on which machine, and whether something is mounted below it. One machine may have two names. */
async function lookAtEnd(
  connection: HostConnection,
  path: string,
): Promise<{ path: string; machine: string; nestedMounts: boolean }> {
  const fields = parseFields(await runScript(connection, `resolving ${path}`, endScript, [path]));
  const found = fields.get('path');
  const machine = fields.get('machine');
  if (found === undefined || machine === undefined) throw new TypeError(`${path} could not be resolved`);
  return { path: found, machine, nestedMounts: fields.get('nested') !== '0' };
}

async function guarded<T>(what: string, untouched: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw classify(error, what, untouched);
  }
}
