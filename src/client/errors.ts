/** What the exit code of `ferry` says; the one table, shown by `ferry --help` and in the reference. */
export const exitCodes = {
  ok: { code: 0, meaning: 'done, and proved where there is something to prove' },
  failure: { code: 1, meaning: 'something failed, or was not confirmed; the message says what, and what to do next' },
  usage: {
    code: 2,
    meaning: 'the command line or the plan is not valid, or --yes or --reason is missing; nothing was done',
  },
  checkFailed: { code: 3, meaning: 'check: at least one check failed' },
  notFound: { code: 4, meaning: 'no such migration, file, key or program' },
  refused: {
    code: 5,
    meaning: 'refused by the migration, by one that runs already or has ended, or by the server; nothing was recorded',
  },
  unreachable: { code: 6, meaning: 'Temporal, the cluster, a host or the worker does not answer' },
  rolledBack: { code: 7, meaning: 'watch: the migration has ended, and it was rolled back' },
  interrupted: {
    code: 130,
    meaning: 'stopped by Ctrl-C: at a question nothing was done; a migration or copy that is watched goes on',
  },
} as const;
export type ExitReason = keyof typeof exitCodes;

/** A mistake or an obstacle that people can do something about: message, perhaps a next command, no stack trace. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly reason: ExitReason;
  /** The command or the thing that helps. */
  readonly next: string | undefined;
  constructor(reason: ExitReason, message: string, next?: string, cause?: unknown) {
    super(message, { cause });
    this.reason = reason;
    this.next = next;
  }
}
