import type { CheckResult, Probe } from '../activities/contract.ts';
import { clip } from './policies.ts';

/* What cannot be compared before and after the move. A person accepts it at a gate, or it would be a hope. */

/** They stay in state and status, which have to fit into one message. */
const kept = 20;
const clauseBytes = 300;

/** Of the checks before the window. */
export function unprovedChecks(checks: readonly CheckResult[]): string[] {
  const found = checks.find(({ name, state }) => name === 'probes' && state !== 'ok');
  return bounded(found?.cause?.split('; ') ?? []);
}

/** Of the probes taken at rest. */
export function untakenProbes(probes: readonly Probe[]): string[] {
  return bounded(
    probes.flatMap(({ component, ordinal, name, untaken }) =>
      untaken === undefined ? [] : [`${component}-${ordinal} did not answer the probe ${name}: ${untaken}`],
    ),
  );
}

export function takenProbes(probes: readonly Probe[]): Probe[] {
  return probes.filter(({ untaken }) => untaken === undefined);
}

export function bounded(clauses: readonly string[]): string[] {
  const clipped = clauses.slice(0, kept).map((clause) => clip(clause, clauseBytes));
  return clauses.length <= kept ? clipped : [...clipped, `and ${clauses.length - kept} more`];
}
