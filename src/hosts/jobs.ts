import { setTimeout as sleep } from 'node:timers/promises';
import type { HostConnection, JobState, Jobs } from './contract.ts';
import { CommandFailed } from './errors.ts';
import { quote, quoteCommand } from './quote.ts';

const root = '/var/lib/ferry/jobs';
/** One answer of `read`; callers go on from the new offset. */
const maxRead = 4 * 1024 * 1024;
const commandTimeout = 60_000;

/**
 * Starts the unit under a lock, so that two workers cannot both do it. Arguments: directory, unit, token. stdin: the job's script.
 * A finished job of the same token is left as it is: its result is still to be read, and the command must not run twice.
 */
const startScript = [
  'umask 077; mkdir -p -- "$1" && exec 9>"$1.lock" && flock -w 30 9 || exit 1',
  'state=$(systemctl show -p ActiveState "$2"); case "$state" in *=active|*=activating|*=deactivating|*=reloading) echo attached; exit 0;; esac',
  'if [ -f "$1/token" ] && [ "$(cat "$1/token")" = "$3" ]; then echo attached; exit 0; fi',
  'systemctl reset-failed "$2" 2>/dev/null; rm -rf -- "$1" && mkdir -p -- "$1" || exit 1',
  'cat >"$1/run" && chmod 0700 "$1/run" && tail -n 1 "$1/run" | grep -q "^# end$" || exit 1',
  ': >"$1/stdout"; : >"$1/stderr"; date -u +%Y-%m-%dT%H:%M:%SZ >"$1/started"',
  'printf %s "$3" >"$1/token.new" && mv -f "$1/token.new" "$1/token"',
  'systemd-run --quiet --unit="$2" --description="ferry job" /bin/sh "$1/run" 9>&- >&2 || { rm -rf -- "$1"; exit 1; }',
  'echo started',
].join('; ');

/** Arguments: directory, unit. */
const stateScript =
  'systemctl show -p ActiveState -p Result "$2"; [ -f "$1/started" ] && echo "Started=$(cat "$1/started")"; [ -f "$1/exit" ] && echo "Exit=$(cat "$1/exit")"; :';

/** Arguments: unit. Ends everything in the unit's cgroup: TERM, six seconds, KILL; then proves that nothing is left. */
const stopScript = [
  'busy() { case "$(systemctl show -p ActiveState "$1")" in *=inactive|*=failed) return 1;; esac; return 0; }',
  'busy "$1" || exit 0',
  'systemctl stop --no-block "$1"',
  'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do busy "$1" || exit 0; sleep 0.5; done',
  'systemctl kill -s KILL "$1"',
  'for i in 1 2 3 4 5 6; do busy "$1" || exit 0; sleep 0.5; done',
  'exit 1',
].join('; ');

/** Arguments: directory, unit. Says a word when the job still runs. */
const clearScript =
  'state=$(systemctl show -p ActiveState "$2") || exit 1; case "$state" in *=inactive) ;; *=failed) systemctl reset-failed "$2" 2>/dev/null;; *) echo running; exit 0;; esac; rm -rf -- "$1"';

/** Long commands as systemd units on machines. */
export function createJobs(): Jobs {
  return { start, state, read, stop, clear };
}

/** Unit of a job. */
export function unitOf(name: string): string {
  if (!/^[a-z0-9][a-z0-9-]{0,199}$/.test(name)) throw new TypeError(`not a job name: ${JSON.stringify(name)}`);
  return `ferry-${name}.service`;
}

/** Directory of a job's files on its machine. */
export function jobDirectory(name: string): string {
  unitOf(name);
  return `${root}/${name}`;
}

async function start(
  connection: HostConnection,
  job: { name: string; argv: readonly string[]; env?: Record<string, string>; cwd?: string; token: string },
): Promise<'started' | 'attached'> {
  const directory = jobDirectory(job.name);
  const argv = ['sh', '-c', startScript, 'sh', directory, unitOf(job.name), job.token];
  const result = await connection.run(argv, { input: jobScript(directory, job), timeout: commandTimeout });
  const answer = result.stdout.trim();
  if (result.code !== 0 || (answer !== 'started' && answer !== 'attached')) {
    throw new CommandFailed(connection.host.name, `starting the job ${job.name}`, result);
  }
  return answer;
}

/** The exit code is kept in a file: a unit that ended well is forgotten by systemd at once. */
function jobScript(
  directory: string,
  job: { argv: readonly string[]; env?: Record<string, string>; cwd?: string },
): string {
  return [
    '#!/bin/sh',
    `exec </dev/null >>${quote(`${directory}/stdout`)} 2>>${quote(`${directory}/stderr`)}`,
    'umask 022',
    ...(job.cwd === undefined ? [] : [`cd -- ${quote(job.cwd)} || exit 98`]),
    quoteCommand(job.argv, job.env),
    'code=$?',
    `echo "$code" >${quote(`${directory}/exit.new`)} && mv -f ${quote(`${directory}/exit.new`)} ${quote(`${directory}/exit`)}`,
    'exit "$code"',
    '# end',
    '',
  ].join('\n');
}

async function state(connection: HostConnection, name: string): Promise<JobState> {
  const argv = ['sh', '-c', stateScript, 'sh', jobDirectory(name), unitOf(name)];
  const result = await connection.run(argv, { timeout: commandTimeout });
  const fields = new Map(
    result.stdout.split('\n').map((line): [string, string] => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
  const active = fields.get('ActiveState');
  if (result.code !== 0 || active === undefined) {
    throw new CommandFailed(connection.host.name, `asking for the job ${name}`, result);
  }
  const startedAt = fields.get('Started');
  const started = startedAt === undefined ? {} : { startedAt };
  if (active !== 'inactive' && active !== 'failed') return { state: 'running', ...started };
  const exit = fields.get('Exit');
  if (exit !== undefined) {
    return { state: 'exited', exitCode: Number(exit), result: exit === '0' ? 'success' : 'exit-code', ...started };
  }
  if (startedAt === undefined) return { state: 'absent' };
  // It was started and left no exit code: killed, or the machine went down under it.
  const reported = fields.get('Result') ?? '';
  return { state: 'exited', result: reported === '' || reported === 'success' ? 'lost' : reported, ...started };
}

async function read(
  connection: HostConnection,
  name: string,
  stream: 'stdout' | 'stderr',
  offset: number,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const script = 'tail -c "+$2" -- "$1" | head -c "$3"';
  const argv = ['sh', '-c', script, 'sh', `${jobDirectory(name)}/${stream}`, `${offset + 1}`, `${maxRead}`];
  const result = await connection.run(argv, {
    timeout: commandTimeout,
    maxOutput: 1024,
    onStdout: (chunk) => chunks.push(chunk),
  });
  if (result.code !== 0) throw new CommandFailed(connection.host.name, `reading the output of the job ${name}`, result);
  return Buffer.concat(chunks);
}

async function stop(connection: HostConnection, name: string): Promise<void> {
  const result = await connection.run(['sh', '-c', stopScript, 'sh', unitOf(name)], { timeout: commandTimeout });
  if (result.code !== 0) throw new CommandFailed(connection.host.name, `stopping the job ${name}`, result);
}

async function clear(connection: HostConnection, name: string): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const argv = ['sh', '-c', clearScript, 'sh', jobDirectory(name), unitOf(name)];
    const result = await connection.run(argv, { timeout: commandTimeout });
    if (result.code === 0 && result.stdout === '') return;
    if (result.code !== 0) throw new CommandFailed(connection.host.name, `clearing the job ${name}`, result);
    if (tries === 5) {
      throw new CommandFailed(connection.host.name, `clearing the job ${name}`, {
        code: 1,
        signal: null,
        stderr: 'it still runs',
      });
    }
    await sleep(500);
  }
}
