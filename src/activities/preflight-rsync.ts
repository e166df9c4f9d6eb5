import type { HostConnection } from '../hosts/contract.ts';
import type { Plan, Transfer } from '../plan/plan.ts';
import { estimateWholeCopy } from '../plan/projection.ts';
import { errorText } from './failures.ts';
import { formatBytes } from './preflight-transfers.ts';
import type { Finding, World } from './preflight-world.ts';
import { askMachines } from './preflight-world.ts';
import type { RsyncFacts } from './rsync-options.ts';
import { isAtLeast, oldestRsync, parseRsyncVersion } from './rsync-options.ts';
import type { Program } from './transfer-program.ts';
import { packProgram } from './transfer-program.ts';

const short = 30_000;

/** What the machines of the copies have for copying. One without rsync stands against nothing: the way round it has a price, and that is told. */
export async function checkRsync(world: World): Promise<Finding> {
  const names = new Set(world.plan.transfers.flatMap(({ source, destination }) => [source.host, destination.host]));
  const found = new Map<string, RsyncFacts>();
  const without: string[] = [];
  const failures = await askMachines(world, [...names], async (connection, name) => {
    const result = await connection.run(['rsync', '--version'], { timeout: short });
    const facts = result.code === 0 ? parseRsyncVersion(result.stdout) : undefined;
    if (facts === undefined) without.push(name);
    else found.set(name, facts);
    // In the end both sides are compared: that this is impossible must not be found out in the window.
    const perl = await connection.run(['perl', '-MPOSIX', '-e', '1'], { timeout: short });
    if (perl.code !== 0) return `${name} has no perl with its module POSIX, and without it no copy can be proved`;
    return facts === undefined ? undefined : whyUseless(facts, name);
  });
  const lent = await lend(world, without.toSorted());
  const old = [...found].filter(([, { version }]) => isAtLeast(version, oldestRsync) && !isAtLeast(version, '3.1.3'));
  const warnings = [
    ...lent.warnings,
    ...old.map(
      ([name, { version }]) =>
        `rsync ${version} of ${name} compares times to the second: copies compare more content (3.1.3 does not)`,
    ),
  ];
  return {
    failures,
    warnings,
    next:
      failures.length > 0
        ? 'install there what is missing: perl (perl-base, or perl-interpreter and perl-POSIX), a complete rsync 3.0 or later'
        : lent.warnings.length > 0
          ? 'install rsync there, or let the worker lend its own (bringRsync in the plan), or plan the window for whole copies'
          : 'rsync 3.1.3 or later is faster, but not needed',
    proof: [...new Set([...found.values()].map(({ version }) => version)), ...lent.proof].join(', '),
  };
}

/** The copy would refuse these: it loses nothing silently. */
function whyUseless({ version, acls, xattrs }: RsyncFacts, name: string): string | undefined {
  if (!isAtLeast(version, oldestRsync))
    return `rsync ${version} of ${name} is too old to carry ACLs and extended attributes`;
  const lost = [acls ? [] : ['ACLs'], xattrs ? [] : ['extended attributes']].flat();
  return lost.length === 0 ? undefined : `rsync ${version} of ${name} was built without ${lost.join(' and ')}`;
}

interface Lent {
  warnings: string[];
  proof: string[];
}

/** What becomes of machines without rsync. */
async function lend(world: World, without: readonly string[]): Promise<Lent> {
  const result: Lent = { warnings: [], proof: [] };
  if (without.length === 0) return result;
  const { bringRsync } = world.plan;
  if (bringRsync === undefined) {
    result.warnings.push(...without.map((name) => priceOfTar(world.plan, name, 'has no rsync')));
    return result;
  }
  if (world.workerBootId === undefined) {
    result.proof.push(
      `${without.join(', ')} without: the worker lends its own, and tries it when the migration begins`,
    );
    return result;
  }
  let program: Program;
  try {
    program = await packProgram(bringRsync.program);
  } catch (error) {
    const why = `has no rsync, and the worker has none to lend (${errorText(error)})`;
    result.warnings.push(...without.map((name) => priceOfTar(world.plan, name, why)));
    return result;
  }
  for (const name of without) {
    const machine = await machineOf(await world.connect(name));
    if (machine === program.machine) {
      result.proof.push(`${program.facts.version} of the worker, lent to ${name} for each copy`);
    } else {
      const why = `has no rsync, and the worker's is built for ${program.machine}, not ${machine}`;
      result.warnings.push(priceOfTar(world.plan, name, why));
    }
  }
  return result;
}

async function machineOf(connection: HostConnection): Promise<string> {
  return (await connection.run(['uname', '-m'], { timeout: short })).stdout.trim();
}

/** What a person must know who opens a window over copies by tar. */
function priceOfTar(plan: Plan, name: string, why: string): string {
  const transfers = plan.transfers.filter((each) => each.source.host === name || each.destination.host === name);
  const ids = transfers.map(({ id }) => id).join(', ');
  return `${name} ${why}: ${ids} ${transfers.length === 1 ? 'goes' : 'go'} through tar, whole in every pass: ${cost(transfers)}`;
}

function cost(transfers: readonly Transfer[]): string {
  if (transfers.some(({ observed }) => observed === undefined)) return 'the window lasts as long as a first copy';
  const bytes = transfers.reduce((sum, { observed }) => sum + (observed?.bytes ?? 0), 0);
  const { seconds, errorSeconds } = estimateWholeCopy(transfers);
  return `${formatBytes(bytes)} in the window, about ${duration(seconds)} ± ${duration(errorSeconds)}`;
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
