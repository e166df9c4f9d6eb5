import { spawn } from 'node:child_process';
import type { RunOptions, RunResult } from '../hosts/contract.ts';
import { needsHuman, transient } from './failures.ts';
import { whileBeating } from './polling.ts';

/** Something that runs argv: a connection to a machine, or the worker itself. */
export interface CommandRunner {
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult>;
}

/** Commands on the worker's own machine; a program that does not exist answers 127, as a shell would. */
export const localRunner: CommandRunner = {
  run: (argv, options = {}) =>
    new Promise((resolve, reject) => {
      const [program = '', ...rest] = argv;
      const child = spawn(program, rest, {
        stdio: ['pipe', 'pipe', 'pipe'],
        env: { ...process.env, ...options.env },
        ...(options.timeout !== undefined && { timeout: options.timeout }),
        ...(options.signal && { signal: options.signal }),
        ...(options.cwd !== undefined && { cwd: options.cwd }),
      });
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
      child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
      child.stdin.on('error', () => undefined);
      child.stdin.end(options.input);
      child.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') resolve({ code: 127, signal: null, stdout: '', stderr: `${program}: not found` });
        else reject(error);
      });
      child.on('close', (code, signal) => {
        resolve({ code, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
      });
    }),
};

export interface Helm {
  /** Whether a release exists, in whatever state, failed and half uninstalled ones included. */
  exists(namespace: string, release: string): Promise<boolean>;
  /** Uninstalls one release; one that is already gone is no error. */
  uninstall(namespace: string, release: string): Promise<void>;
}

const healing = [
  /connection refused/i,
  /connection reset/i,
  /i\/o timeout/i,
  /timed? ?out/i,
  /\bEOF\b/,
  /TLS handshake/i,
  /etcdserver/i,
  /no route to host/i,
  /context deadline exceeded/i,
  /the server is currently unable/i,
  /another operation .* is in progress/i,
];
const notFound = /release: not found/;

/**
 * Helm 3 as the platform has it: `helm3`, or `helm` where that is version 3 or later (the platform also knows a `helm` of
 * version 2). `where` names the machine in messages.
 */
export async function findHelm(runner: CommandRunner, where: string): Promise<Helm> {
  const binary = await whileBeating({ waiting: `helm version on ${where}` }, () => requireHelm(runner, where));

  function fail(result: RunResult, doing: string): Error {
    const cause = lastLines(result.stderr) || `exit code ${result.code ?? `of signal ${result.signal ?? '?'}`}`;
    const failure = { what: `${doing} on ${where} failed`, cause, untouched: 'the data; PVs are of policy Retain' };
    if (healing.some((pattern) => pattern.test(result.stderr))) {
      return transient({ ...failure, next: 'it is tried again by itself' });
    }
    return needsHuman({ ...failure, next: `run it by hand on ${where} to see more, then: ferry resume` });
  }

  async function exists(namespace: string, release: string): Promise<boolean> {
    const argv = [binary, 'list', '--namespace', namespace, '--all', '--filter', `^${release}$`, '--output', 'json'];
    const result = await whileBeating({ waiting: `helm list of ${namespace}` }, () =>
      runner.run(argv, { timeout: 60_000 }),
    );
    if (result.code !== 0) throw fail(result, `Listing Helm releases of ${namespace}`);
    const releases = JSON.parse(result.stdout) as { name: string }[];
    return releases.some(({ name }) => name === release);
  }

  async function uninstall(namespace: string, release: string): Promise<void> {
    const argv = [binary, 'uninstall', release, '--namespace', namespace, '--timeout', '5m'];
    const result = await whileBeating({ waiting: `helm uninstall ${release}` }, () =>
      runner.run(argv, { timeout: 360_000 }),
    );
    if (result.code === 0 || notFound.test(result.stderr)) return;
    throw fail(result, `Uninstalling the Helm release ${namespace}/${release}`);
  }

  return { exists, uninstall };
}

async function requireHelm(runner: CommandRunner, where: string): Promise<string> {
  const binary = await helmBinary(runner);
  if (binary !== undefined) return binary;
  throw needsHuman({
    what: `There is no Helm 3 on ${where}`,
    cause: noHelm,
    untouched: 'everything',
    next: `put helm3 on the PATH of ${where}, then: ferry resume`,
  });
}

export const noHelm = 'neither helm3 nor helm answered with version 3 or later';

/** Name of the program, or undefined where there is no Helm 3. */
export async function helmBinary(runner: CommandRunner): Promise<string | undefined> {
  for (const binary of ['helm3', 'helm']) {
    const result = await runner.run([binary, 'version', '--short'], { timeout: 30_000 });
    if (result.code === 0 && /^v(?!2\.)\d+\./.test(result.stdout.trim())) return binary;
  }
  return undefined;
}

/** The last three lines of a tool's stderr, as one. */
export function lastLines(text: string, count = 3): string {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .slice(-count)
    .join('; ');
}
