import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { CommandFailed, HostKeyMismatch, HostRefused } from '../hosts/errors.ts';
import { UnquotableArgument } from '../hosts/quote.ts';
import { errorText, isClassified, needsHuman, networkCode, permanent, transient } from './failures.ts';
import { CopyRefused } from './rsync-options.ts';

/** Gives every error of a transfer its class: what heals by itself, by a human, never. */
export function classify(error: unknown, what: string, untouched: string): unknown {
  if (isClassified(error)) return error;
  // A wait that was cut short by the end of the activity.
  if (error instanceof Error && error.name === 'AbortError' && error.cause instanceof CancelledFailure)
    return error.cause;
  if (error instanceof CopyRefused) {
    return permanent({ what, cause: error.message, untouched, next: error.wayOut }, error);
  }
  if (error instanceof HostKeyMismatch) {
    const next = `compare the key on the console of ${error.host}; if it is right, write it into the plan and approve the new plan`;
    return needsHuman({ what, cause: error.message, untouched, next }, error);
  }
  if (error instanceof HostRefused) {
    const next = `add this worker's public key to authorized_keys on ${error.host}, then resume`;
    return needsHuman({ what, cause: error.message, untouched, next }, error);
  }
  if (error instanceof UnquotableArgument) {
    return permanent({ what, cause: error.message, untouched, next: 'use another name in the plan' }, error);
  }
  const isLost = error instanceof Error && (error.name === 'HostUnreachable' || networkCode(error) !== undefined);
  const host = error instanceof CommandFailed ? error.host : undefined;
  const next = isLost
    ? 'it is tried again by itself; if it stays so, look at the machine and the network'
    : `it is tried again a few times; then look${host === undefined ? '' : ` at ${host}`}`;
  return transient({ what, cause: errorText(error), untouched, next }, error);
}

/** What several ends of one transfer threw, as one: what a human must see to comes first. */
export function classifyAll(errors: readonly unknown[], what: string, untouched: string): unknown {
  const classified = errors.map((error) => classify(error, what, untouched));
  if (classified.length === 1) return classified[0];
  const isTransient = (error: unknown): boolean => error instanceof ApplicationFailure && error.type === 'Transient';
  const worst = classified.find((error) => !isTransient(error));
  if (worst !== undefined) return worst;
  const next = 'it is tried again by itself; if it stays so, look at both machines and the network';
  return transient({ what, cause: errors.map(errorText).join('; '), untouched, next }, errors[0]);
}
