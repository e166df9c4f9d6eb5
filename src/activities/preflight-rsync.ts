import type { HostConnection } from '../hosts/contract.ts';
import type { Plan, Transfer } from '../plan/plan.ts';
import { estimateWholeCopy } from '../plan/projection.ts';
import { formatBytes } from '../plan/amounts.ts';
import { errorText } from './failures.ts';
import type { Finding, World } from './preflight-world.ts';
import { askMachines } from './preflight-world.ts';
import type { RsyncFacts } from './rsync-options.ts';
import { isAtLeast, parseRsyncVersion, selinuxIsOn, wayOutOfLabels, whyLabels, whyUseless } from './rsync-options.ts';
import type { Program } from './transfer-program.ts';
import { packProgram } from './transfer-program.ts';

const short = 30_000;

/** The trees are not looked into yet: they may have anything. */
const anyTree = { acls: true, xattrs: true };

/**
 * What the machines of the copies have for copying. One without rsync stands against nothing: the way round it has a price, and that is
 * told. One whose rsync would lose something needs the loan of another.
 */
export async function checkRsync(world: World): Promise<Finding> {
  const names = new Set(world.plan.transfers.flatMap(({ source, destination }) => [source.host, destination.host]));
  const found = new Map<string, RsyncFacts>();
  const without: string[] = [];
  const useless = new Map<string, string>();
  const labelled = new Map<string, boolean>();
  const failures = await askMachines(world, [...names], async (connection, name) => {
    const result = await connection.run(['rsync', '--version'], { timeout: short });
    const facts = result.code === 0 ? parseRsyncVersion(result.stdout) : undefined;
    if (facts === undefined) without.push(name);
    else found.set(name, facts);
    const why = facts === undefined ? undefined : whyUseless(facts, anyTree);
    if (facts !== undefined && why !== undefined) useless.set(name, `rsync ${facts.version} of ${name} ${why}`);
    labelled.set(name, (await connection.run(['test', '-e', selinuxIsOn], { timeout: short })).code === 0);
    // In the end both sides are compared: that this is impossible must not be found out in the window.
    const perl = await connection.run(['perl', '-MPOSIX', '-e', '1'], { timeout: short });
    if (perl.code !== 0) return `${name} has no perl with its module POSIX, and without it no copy can be proved`;
    return undefined;
  });
  const lent = await lend(world, without.toSorted(), useless);
  const useful = [...found].filter(([name]) => !useless.has(name));
  const old = useful.filter(([, { version }]) => !isAtLeast(version, '3.1.3'));
  const warnings = [
    ...lent.warnings,
    ...old.map(
      ([name, { version }]) =>
        `rsync ${version} of ${name} compares times to the second: copies compare more content (3.1.3 does not)`,
    ),
  ];
  failures.push(...lent.failures);
  const unequal = unequalLabels(world.plan, labelled);
  if (unequal.length > 0) {
    return { failures: [...failures, ...unequal], warnings, next: wayOutOfLabels, proof: '' };
  }
  return {
    failures,
    warnings,
    next:
      failures.length > 0
        ? 'install there what is missing: perl (perl-base, or perl-interpreter and perl-POSIX), a complete rsync 3.0 or later (or let the worker lend its own: ferry plan --bring-rsync)'
        : lent.warnings.length > 0
          ? 'install rsync there, or let the worker lend its own (ferry plan --bring-rsync), or plan the window for whole copies'
          : 'rsync 3.1.3 or later is faster, but not needed',
    proof: [...new Set(useful.map(([, { version }]) => version)), ...lent.proof].join(', '),
  };
}

function unequalLabels(plan: Plan, labelled: ReadonlyMap<string, boolean>): string[] {
  const pairs = plan.transfers.flatMap(({ source, destination }) =>
    labelled.get(destination.host) === true && labelled.get(source.host) === false
      ? [`${source.host} to ${destination.host}: ${whyLabels}`]
      : [],
  );
  return [...new Set(pairs)].toSorted();
}

interface Lent {
  failures: string[];
  warnings: string[];
  proof: string[];
}

/** What becomes of machines without rsync, and of those whose own is of no use: the copy would refuse these, it loses nothing silently. */
async function lend(world: World, without: readonly string[], useless: ReadonlyMap<string, string>): Promise<Lent> {
  const result: Lent = { failures: [], warnings: [], proof: [] };
  const all = [...without, ...[...useless.keys()].toSorted()];
  const tell = (name: string, but = ''): void => {
    const why = useless.get(name);
    if (why === undefined) result.warnings.push(priceOfTar(world.plan, name, `has no rsync${but}`));
    else result.failures.push(`${why}${but}`);
  };
  if (all.length === 0) return result;
  const { bringRsync } = world.plan;
  if (bringRsync === undefined) {
    for (const name of all) tell(name);
    return result;
  }
  if (world.workerBootId === undefined) {
    result.proof.push(
      `${all.join(', ')} without a complete one: the worker lends its own, and tries it when the migration begins`,
    );
    return result;
  }
  let program: Program;
  try {
    program = await packProgram(bringRsync.program);
  } catch (error) {
    for (const name of all) tell(name, `, and the worker has none to lend (${errorText(error)})`);
    return result;
  }
  for (const name of all) {
    const machine = await machineOf(await world.connect(name));
    if (machine === program.machine) {
      result.proof.push(`${program.facts.version} of the worker, lent to ${name} for each copy`);
    } else {
      tell(name, `, and the worker's is built for ${program.machine}, not ${machine}`);
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
