import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { CommandTimedOut, HostKeyMismatch, HostRefused, HostUnreachable } from '../hosts/errors.ts';
import type { FailureDetail, FailureType } from './contract.ts';

/** What an operator needs to know about a failure; becomes message and details of an `ApplicationFailure`. */
export interface Failure extends FailureDetail {
  /** What happened, one sentence without a full stop. */
  what: string;
}

function build(type: FailureType, failure: Failure, cause?: unknown): ApplicationFailure {
  const { what, ...detail } = failure;
  return ApplicationFailure.create({
    type,
    // Only `Transient` heals without anybody doing something, so only that is worth another try.
    nonRetryable: type !== 'Transient',
    message: `${what}: ${detail.cause}. Untouched: ${detail.untouched}. Next: ${detail.next}`,
    details: [detail],
    ...(cause instanceof Error && { cause }),
  });
}

/** Heals by itself: Temporal tries again with the activity's back-off. */
export function transient(failure: Failure, cause?: unknown): ApplicationFailure {
  return build('Transient', failure, cause);
}

/** Heals by a human: the phase parks until somebody resumes it. */
export function needsHuman(failure: Failure, cause?: unknown): ApplicationFailure {
  return build('NeedsHuman', failure, cause);
}

/** Never heals here: the phase parks and offers to abort. */
export function permanent(failure: Failure, cause?: unknown): ApplicationFailure {
  return build('Permanent', failure, cause);
}

export function failureOf(type: FailureType, failure: Failure, cause?: unknown): ApplicationFailure {
  return build(type, failure, cause);
}

/** True for failures that already carry their classification, and for cancellation, which is none. */
export function isClassified(error: unknown): boolean {
  return error instanceof CancelledFailure || (error instanceof ApplicationFailure && Boolean(error.type));
}

const networkCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'ETIMEDOUT',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_CLOSED',
]);

/** The first network error code in a chain of causes, or undefined. */
export function networkCode(error: unknown): string | undefined {
  for (let current = error, depth = 0; current instanceof Error && depth < 8; current = current.cause, depth += 1) {
    const code = (current as NodeJS.ErrnoException).code;
    if (typeof code === 'string' && networkCodes.has(code)) return code;
    if (current instanceof AggregateError) {
      const inner = current.errors.map(networkCode).find((found) => found !== undefined);
      if (inner !== undefined) return inner;
    }
    if (current.name === 'TimeoutError') return 'ETIMEDOUT';
  }
  return undefined;
}

/** Text of an unknown thrown value, one line. */
export function errorText(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().replaceAll(/\s*\n\s*/g, '; ');
}

/** Runs a step against a machine; a lost connection becomes `Transient`, a refused one `NeedsHuman`, everything classified passes. */
export async function onHost<T>(host: string, untouched: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    if (isClassified(error)) throw error;
    if (error instanceof HostKeyMismatch || error instanceof HostRefused) {
      throw needsHuman(
        {
          what: `${host} cannot be used`,
          cause: errorText(error),
          untouched,
          next: "compare host key and authorized_keys of the machine with the plan and the worker's key, then: ferry resume",
        },
        error,
      );
    }
    if (error instanceof CommandTimedOut || error instanceof HostUnreachable || networkCode(error) !== undefined) {
      throw transient(
        {
          what: `${host} did not answer in time`,
          cause: errorText(error),
          untouched,
          next: `it is tried again by itself; if it stays so: ssh ${host} true`,
        },
        error,
      );
    }
    throw error;
  }
}
