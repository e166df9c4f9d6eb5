import { z } from 'zod';
import { counted } from '../plan/counted.ts';
import type { PhaseName } from '../workflows/messages.ts';

/* What a phase proved, put together from what its steps answered: its own last word stands in the result of the workflow alone. Pure. */

/** Sections of the runbook. */
export const sections: Record<PhaseName, number> = {
  preflight: 4,
  prewarm: 5,
  backup: 6,
  replicate: 7,
  'stop-apps': 8,
  'add-nodes': 9,
  'edit-secrets': 10,
  uninstall: 11,
  'stop-host-services': 12,
  'final-copy': 13,
  'start-host-services': 14,
  reinstall: 15,
  'remove-nodes': 15,
  'start-apps': 16,
  verify: 17,
};

/** Whose step it is, where several phases work hand in hand. */
export const stepsOf: Partial<Record<PhaseName, readonly string[]>> = {
  uninstall: ['recordVolumes', 'uninstallComponent'],
  'stop-host-services': ['stopHostServices'],
};

interface Answer {
  activity: string;
  result?: unknown;
}

/** More answers of one kind than these are counted. */
const answersShown = 3;

const checksSchema = z.array(z.looseObject({ name: z.string(), state: z.string(), cause: z.string().optional() }));
const proofSchema = z.looseObject({ proof: z.string() });

/** One line of what the steps of a phase answered; `copied`: ids of the directories whose copies came to their end in it. */
export function provedBy(
  phase: PhaseName,
  answers: readonly Answer[],
  copied: readonly string[],
  transfers: number,
): string | undefined {
  const text = [...copiesText(phase, copied, transfers), ...checksText(answers), ...proofs(answers)].join('; ');
  return text === '' ? undefined : text;
}

function copiesText(phase: PhaseName, copied: readonly string[], transfers: number): string[] {
  if (copied.length === 0) return [];
  const all = counted(transfers, 'directory', 'directories');
  return [`${new Set(copied).size} of ${all} ${phase === 'final-copy' ? 'verified' : 'copied'}`];
}

function checksText(answers: readonly Answer[]): string[] {
  const last = answers.findLast(({ activity }) => activity === 'preflight');
  const checks = checksSchema.safeParse(last?.result);
  if (!checks.success) return [];
  const good = checks.data.filter(({ state }) => state !== 'warning' && state !== 'failed');
  const others = checks.data.filter((check) => !good.includes(check));
  return [
    `${counted(checks.data.length, 'check')}, ${good.length} good`,
    ...others.map(({ name, state, cause = '' }) => `${state}: ${name}: ${cause}`),
  ];
}

function proofs(answers: readonly Answer[]): string[] {
  const byActivity = new Map<string, string[]>();
  for (const { activity, result } of answers) {
    const parsed = proofSchema.safeParse(result);
    // The mark that keeps other migrations off is taken by the way.
    if (!parsed.success || activity === 'holdCluster') continue;
    byActivity.set(activity, [...new Set([...(byActivity.get(activity) ?? []), parsed.data.proof])]);
  }
  return [...byActivity].flatMap(([activity, said]) =>
    said.length <= answersShown ? said : [`${activity} ${said.length} times, the last: ${said.at(-1) ?? ''}`],
  );
}
