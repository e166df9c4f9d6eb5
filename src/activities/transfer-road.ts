import { setTimeout as sleep } from 'node:timers/promises';
import type { HostAddress, HostConnection } from '../hosts/contract.ts';
import type { ReplicateInput } from '../plan/replicate.ts';
import { needsHuman, transient } from './failures.ts';
import { tryScript } from './host-script.ts';
import { Lately } from './lately.ts';

/* The road that the data takes from machine to machine, tried before anything depends on it. */

/** Size of the trial of the wire: long enough to see ten gigabits, too short to be in anybody's way. It lasts half a second at most. */
const trialBytes = 64 * 1024 ** 2;

/** Script that proves that key and gate let the source in. Argument: directory of the transfer. */
const checkScript = `ssh -F "$1/ssh_config" ferry ferry-check`;

/**
 * Script that tries the road of the data, encryption included, with zeros that nobody keeps. Argument: directory of the transfer. Both
 * ends tell how many tasks want a processor, and how many there are.
 */
const trialScript = String.raw`
head -c ${trialBytes + 1024 ** 2} /dev/zero 2>/dev/null | ssh -F "$1/ssh_config" ferry ferry-trial || return
read -r one five fifteen tasks last </proc/loadavg
echo "ferry-tasks ${'$'}{tasks%/*} $(nproc)"
`;

/** Bytes per second that the gate saw in a trial; 0 when its answer says nothing, or only how busy the processors are. */
export function parseTrial(text: string): number {
  const crowded = [...text.matchAll(/^ferry-tasks (\d+) (\d+)$/gm)].some(
    ([, tasks, cores]) => Number(tasks) > 2 * Number(cores) + 4,
  );
  const [, bytes = '0', time = '0'] = /^ferry-trial (\d+) ([\d.e-]+)$/m.exec(text) ?? [];
  const seconds = Number(time);
  return !crowded && Number(bytes) >= 64 * 1024 && seconds > 0.001 ? Number(bytes) / seconds : 0;
}

/** The wire of a copy that ends at once makes no difference. */
const tooSmallForTrial = 8 * 1024 ** 2;
const isKnownFor = 10 * 60_000;
/** Where processors are crowded the trial gives no answer, and another one at once gives none either. */
const crowdedFor = 60_000;

/** What transfers through one worker tell each other of the roads between machines. */
export class RoadMemory {
  /** The small ones only prove that there is a way. */
  readonly open = new Lately<true>(() => isKnownFor);
  /** Bytes per second. */
  readonly rates = new Lately<number>((rate) => (rate === 0 ? crowdedFor : isKnownFor));
}

/**
 * Tries the road. One transfer tries it for all between the same machines that come within minutes: whoever logs in for it costs more than
 * a small directory does, and what a transfer has of its own, a key and a gate, is made by the same steps. Answers the bytes per second
 * that it carries, 0 when unknown.
 */
export async function tryRoad(
  source: HostConnection,
  request: ReplicateInput,
  directory: string,
  bytes: number,
  roads: RoadMemory,
): Promise<number> {
  const road = nameOf(request);
  if (bytes >= tooSmallForTrial) {
    return roads.rates.ask(road, async () => parseTrial(await askGate(source, request, trialScript, directory)));
  }
  await roads.open.ask(road, async () => {
    await askGate(source, request, checkScript, directory);
    return true;
  });
  return 0;
}

/** Where another user or another pinned key is meant, it is another road. */
function nameOf({ source, destination }: ReplicateInput): string {
  const parts = ({ address, port, user, hostKeys }: HostAddress): unknown[] => [address, port, user, hostKeys];
  return JSON.stringify([parts(source), parts(destination)]);
}

/** sshd hangs up on some of many that log in at once (MaxStartups), before a word is said. */
const turnedAway = /^(?:kex|ssh)_exchange_identification: /m;
const knockFor = 60_000;

async function askGate(
  source: HostConnection,
  request: ReplicateInput,
  script: string,
  directory: string,
): Promise<string> {
  let result = await tryScript(source, script, [directory], { timeout: 60_000 });
  const begin = Date.now();
  const isTurnedAway = (): boolean => result.code === 255 && turnedAway.test(result.stderr);
  while (isTurnedAway() && Date.now() - begin < knockFor) {
    await sleep(300 + 1500 * Math.random());
    result = await tryScript(source, script, [directory], { timeout: 60_000 });
  }
  if (result.code === 0 && result.stdout.includes('ferry-ready')) return result.stdout;
  const said = result.stderr.trim().split('\n').slice(-3).join('; ');
  throw (isTurnedAway() ? transient : needsHuman)({
    what: `${request.transfer.source.host} cannot reach ${request.transfer.destination.host} for ${request.transfer.id}`,
    cause: said === '' ? `ssh ended with ${result.code ?? result.signal ?? '?'}` : said,
    untouched: 'no data was copied',
    next: `try it: ssh ${request.transfer.source.host} ssh -v ${request.destination.user}@${request.destination.address} -p ${request.destination.port}`,
  });
}
