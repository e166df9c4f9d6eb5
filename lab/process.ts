import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { files, labName } from './paths.ts';
import { run, type RunOptions, type RunOutput } from './workloads/run.ts';

/** True in a process that `lab run` started in this very lab: its namespaces are the lab's already. */
export function isInside(): boolean {
  return process.env['IN_LAB'] === '1' && process.env['LAB_NAME'] === labName;
}

/** Whether a process is there and not just waiting to be reaped. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
  } catch {
    return false;
  }
}

export function readPid(file: string): number | undefined {
  if (!existsSync(file)) return undefined;
  const pid = Number(readFileSync(file, 'utf8').trim());
  return Number.isInteger(pid) && pid > 1 && isAlive(pid) ? pid : undefined;
}

/** argv that runs in the lab's namespaces, in the same working directory. */
export function enter(argv: readonly string[], workingDirectory = process.cwd()): string[] {
  if (isInside()) return [...argv];
  const init = readPid(files.init);
  if (init === undefined) throw new Error(`lab ${labName} is not up; bring it up: npm run -s lab -- up`);
  return ['nsenter', '-t', String(init), '-n', '-m', '-p', '-u', `--wd=${workingDirectory}`, '--', ...argv];
}

/** Runs a command in the lab's namespaces and waits for it; throws if it fails. */
export function inLab(argv: readonly string[], options: RunOptions = {}): Promise<RunOutput> {
  return run(enter(argv, '/'), options);
}

export interface StartOptions {
  env?: Record<string, string>;
  /** Something outside waits for the process, and ends when it ends. Not for what a fault stops: what waits would stop too, and be left. */
  isWatched?: boolean;
}

/** Starts a process in the lab's namespaces that lives as long as the lab; its output goes to a file. */
export function startInLab(
  argv: readonly string[],
  logFile: string,
  { env = {}, isWatched = false }: StartOptions = {},
): ChildProcess {
  const log = openSync(logFile, 'a');
  const options: SpawnOptions = { stdio: ['ignore', log, log], detached: true, env: { ...process.env, ...env } };
  const [file = '', ...args] = enter(['setsid', ...(isWatched ? [] : ['--fork']), ...argv], '/');
  const child = spawn(file, args, options);
  closeSync(log);
  child.unref();
  return child;
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Polls until `probe` answers something else than undefined or false; a probe that throws has not answered. */
export async function poll<T>(
  what: string,
  seconds: number,
  probe: () => Promise<T | undefined | false>,
  every = 150,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  let last = '';
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
    } catch (error) {
      last = error instanceof Error ? `: ${error.message}` : '';
    }
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s for ${what}${last}`);
    await pause(every);
  }
}

const started = Date.now();

/** Progress for people: seconds since the command began, and what is done now. */
export function say(line: string): void {
  console.error(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${line}`);
}
