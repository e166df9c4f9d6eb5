import { CancellationScope, condition, TemporalFailure } from '@temporalio/workflow';
import type { Transfer } from '../../plan/plan.ts';
import { counted } from '../../plan/counted.ts';
import { copyRound } from '../copies.ts';
import { projectDowntime } from '../downtime.ts';
import type { TransferStatus } from '../messages.ts';
import type { Migration, Phase } from '../migration.ts';
import { now } from '../migration.ts';
import { phaseOf } from '../state.ts';
import { standsStill } from '../parking.ts';
import { dueInSeconds, restSeconds, roundSeconds } from '../shares.ts';
import { duration } from '../status.ts';

/** Passes of one freshening round: the source is in use, more passes would only chase it. */
const freshenPasses = 1;
/** People are reminded once a day: nothing rests longer than a part of it. */
const longestRest = 6 * 3600;

/** Online copies of every directory while applications run; the gate after it keeps them fresh. */
export const replicate: Phase = {
  name: 'replicate',
  section: 7,
  run: copyOnline,
  skip: (plan) => (plan.transfers.length > 0 ? undefined : 'the plan moves no data'),
};

async function copyOnline(migration: Migration): Promise<string> {
  await copyRound(migration, 'replicate', { mode: 'live', maxPasses: migration.plan.limits.maxPasses });
  return describeFreshness(migration);
}

/**
 * While people think: rests, copies once more, and tells the projected downtime. Comes back after one round, or as soon as `until`
 * holds; a round at work is then ended cleanly, what it moved stays.
 */
export async function keepFresh(migration: Migration, until: () => boolean): Promise<void> {
  if (migration.plan.transfers.length === 0) {
    await condition(until, longestRest * 1000, { summary: 'until people are reminded' });
    return;
  }
  if (!(await rest(migration, until))) return;
  const due = dueTransfers(migration);
  if (!until() && due.length > 0) {
    await oneRound(migration, due, until);
  }
}

/** A copy that moves everything every time takes part now and then only. */
function dueTransfers(migration: Migration): Transfer[] {
  return migration.plan.transfers.filter(({ id }) => waitOf(migration, id) === 0);
}

function waitOf(migration: Migration, id: string): number {
  const status = migration.state.transfers.find((transfer) => transfer.id === id);
  return status?.isWhole === true ? dueInSeconds(status.passes.at(-1), Date.now()) : 0;
}

/** Rests until the next round is due, or for a part of that; answers whether it is due. */
async function rest(migration: Migration, until: () => boolean): Promise<boolean> {
  const { quietRounds, lastRoundSeconds, lastRoundAt } = migration.state.freshening;
  const usual = restSeconds(migration.plan.limits.refreshSeconds, quietRounds, lastRoundSeconds);
  const since = Date.parse(lastRoundAt ?? phaseOf(migration.state, 'replicate').doneAt ?? now());
  const untilOneIsDue = Math.min(...migration.plan.transfers.map(({ id }) => waitOf(migration, id)));
  // Whole seconds: a rest for a part of a millisecond would come back at the same time, again and again.
  const seconds = Math.ceil(Math.max(usual - (Date.now() - since) / 1000, untilOneIsDue));
  if (seconds > 0) {
    await condition(until, Math.min(seconds, longestRest) * 1000, { summary: 'rest before copying once more' });
  }
  if (standsStill(migration)) {
    await condition(() => until() || !standsStill(migration));
  }
  return seconds <= longestRest;
}

async function oneRound(migration: Migration, transfers: readonly Transfer[], until: () => boolean): Promise<void> {
  const { transfers: known } = migration.state;
  const before = movedBytes(migration);
  await CancellationScope.cancellable(async () => {
    const round = copyRound(migration, 'replicate', { mode: 'live', maxPasses: freshenPasses }, transfers);
    const decided = condition(until);
    try {
      await Promise.race([round, decided]);
    } finally {
      CancellationScope.current().cancel();
      await Promise.allSettled([round, decided]);
    }
    if (!until()) {
      await round;
    }
  }).catch((error: unknown) => {
    if (!until() || !(error instanceof TemporalFailure)) {
      throw error;
    }
  });
  const { freshening } = migration.state;
  migration.state.freshening = {
    rounds: freshening.rounds + 1,
    quietRounds: movedBytes(migration) === before ? freshening.quietRounds + 1 : 0,
    lastRoundSeconds: roundSeconds(migration.plan, copySeconds(migration, known)),
    lastRoundAt: now(),
  };
  phaseOf(migration.state, 'replicate').detail = describeFreshness(migration);
}

/** Seconds of the passes that each copy made since this was known. */
function copySeconds(migration: Migration, known: readonly TransferStatus[]): Map<string, number> {
  const before = new Set(known.flatMap(({ passes }) => passes));
  return new Map(
    migration.state.transfers.map(({ id, passes }) => [
      id,
      passes.filter((pass) => !before.has(pass)).reduce((sum, { seconds }) => sum + seconds, 0),
    ]),
  );
}

/** Bytes that all passes known so far had to move; a round that adds none was quiet. One that moves everything always says nothing. */
function movedBytes(migration: Migration): string {
  return JSON.stringify(
    migration.state.transfers.map((transfer) => {
      const last = transfer.passes.at(-1);
      return last === undefined || last.literalBytes === 0 || transfer.isWhole === true ? '' : last.startedAt;
    }),
  );
}

function describeFreshness(migration: Migration): string {
  const { plan, state } = migration;
  const fresh = state.transfers.filter((transfer) => transfer.state === 'fresh').length;
  const projection = projectDowntime(plan, state.phases, state.transfers, state.downtime, Date.now());
  const rounds = state.freshening.rounds === 0 ? '' : `, freshened ${counted(state.freshening.rounds, 'time')}`;
  const whole = state.transfers.filter(({ isWhole }) => isWhole === true).length;
  const byTar =
    whole === 0 ? '' : `, ${whole} by tar, which moves everything: again for at most a twentieth of the time`;
  const slow = state.transfers.filter(({ advice }) => advice !== undefined);
  const named = slow.slice(0, 3).map(({ id, advice = '' }) => `; ${id}: ${advice}`);
  const others = slow.length > named.length ? `; and ${slow.length - named.length} more do not converge` : '';
  return `${fresh} of ${counted(state.transfers.length, 'directory', 'directories')} copied${rounds}${byTar}; projected downtime ${duration(projection.seconds)} ± ${duration(projection.errorSeconds)}${named.join('')}${others}`;
}
