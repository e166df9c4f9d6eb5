import { z } from 'zod';

/** Where the activities keep their own small files on a machine; all 0600 below a directory 0700. */
export interface HostState {
  directory: string;
  /** Digest of `~/.proton-cli.yaml` before the migration, or `absent`. */
  namespaceFile: string;
  /** Which execution of an activity the running apply belongs to. */
  applyToken: string;
  /** The configuration while it is applied. */
  applyFile: string;
  guard: string;
  /** Units that stopHostServices found running: a `StoppedUnits`. */
  stoppedUnits: string;
}

export function hostState(migration: string): HostState {
  const directory = `/var/lib/ferry/state/${migration}`;
  return {
    directory,
    namespaceFile: `${directory}/namespace-file`,
    applyToken: `${directory}/apply-token`,
    applyFile: `${directory}/apply.yaml`,
    guard: `${directory}/apply-guard.sh`,
    stoppedUnits: `${directory}/stopped-units.json`,
  };
}

/**
 * What ran on a machine before its host services were stopped: a repeated stop finds nothing running, and start must not start what never
 * ran. The record stays when the units run again (`restored`), so that a repeated start finds it as well; the next stop begins a new one.
 */
export const stoppedUnitsSchema = z.object({ units: z.array(z.string()), restored: z.boolean() });
export type StoppedUnits = z.infer<typeof stoppedUnitsSchema>;
