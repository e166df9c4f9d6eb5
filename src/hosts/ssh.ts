import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientChannel, ConnectConfig } from 'ssh2';
import { Client } from 'ssh2';
import type { HostAddress, HostConnection, Hosts, RunOptions, RunResult } from './contract.ts';
import { CommandFailed, CommandTimedOut, HostKeyMismatch, HostRefused, HostUnreachable } from './errors.ts';
import { algorithmsOf, fingerprint, keyType } from './known-hosts.ts';
import { quote, quoteCommand } from './quote.ts';

export interface HostsOptions {
  /** Private key in OpenSSH or PEM form; it stays in this process. */
  privateKey: string | Buffer;
  /** Passphrase of the private key. */
  passphrase?: string;
  /** Milliseconds for a connection to stand; default 15 000. */
  connectTimeout?: number;
}

/** sshd serves ten sessions per connection unless told otherwise. */
const sessionsPerConnection = 8;
const connectionsPerHost = 4;
const maxRefusals = 10;
const keepaliveSeconds = 5;
const defaultMaxOutput = 1024 * 1024;
const maxFileSize = 64 * 1024 * 1024;

interface Link {
  client: Client;
  sessions: number;
  lost: Error | undefined;
}

interface Captured {
  code: number | null;
  signal: string | null;
  stdout: Buffer;
  stderr: Buffer;
}

/** Pool of ssh connections with pinned host keys. Connections are made when needed and made again when lost. */
export function createHosts(options: HostsOptions): Hosts {
  const pools = new Map<string, HostPool>();

  async function connect(host: HostAddress): Promise<HostConnection> {
    const key = JSON.stringify([host.user, host.address, host.port, host.name, host.hostKeys]);
    const pool = pools.get(key) ?? new HostPool(host, options);
    pools.set(key, pool);
    await pool.ready();
    return connectionTo(pool);
  }

  async function close(): Promise<void> {
    const all = [...pools.values()];
    pools.clear();
    await Promise.all(all.map((pool) => pool.close()));
  }

  return { connect, close };
}

function connectionTo(pool: HostPool): HostConnection {
  const { host } = pool;

  async function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const result = await execute(pool, argv, options);
    return { ...result, stdout: result.stdout.toString(), stderr: result.stderr.toString() };
  }

  async function readFile(path: string): Promise<Buffer | undefined> {
    const script = 'if [ -e "$1" ]; then exec cat -- "$1"; fi; exit 44';
    const result = await execute(pool, ['sh', '-c', script, 'sh', path], { timeout: 60_000, maxOutput: maxFileSize });
    if (result.code === 44) return undefined;
    if (result.code !== 0) throw new CommandFailed(host.name, `reading ${path}`, textOf(result));
    return result.stdout;
  }

  async function writeFile(path: string, content: string | Buffer, mode: number): Promise<void> {
    const bytes = Buffer.from(content);
    // The length is compared because a lost connection looks like the end of the input.
    const script = [
      'umask 077; t=$(mktemp -- "$1.XXXXXX") || exit 1; trap \'rm -f -- "$t"\' EXIT',
      'chmod "$2" "$t" && cat >"$t" && [ "$(wc -c <"$t")" -eq "$3" ] || exit 1',
      'sync "$t" 2>/dev/null; mv -fT -- "$t" "$1" && { sync "$(dirname -- "$1")" 2>/dev/null; :; }',
    ].join('; ');
    const argv = ['sh', '-c', script, 'sh', path, mode.toString(8).padStart(4, '0'), `${bytes.length}`];
    const result = await execute(pool, argv, { input: bytes, timeout: 120_000 });
    if (result.code !== 0) throw new CommandFailed(host.name, `writing ${path}`, textOf(result));
  }

  return { host, run, readFile, writeFile };
}

function textOf(result: Captured): { code: number | null; signal: string | null; stderr: string } {
  return { code: result.code, signal: result.signal, stderr: result.stderr.toString() };
}

/** Runs one command. Ends its process group when the time is over, the caller gives up or output cannot be delivered. */
async function execute(pool: HostPool, argv: readonly string[], options: RunOptions): Promise<Captured> {
  const { host } = pool;
  options.signal?.throwIfAborted();
  const token = `ferry-${randomBytes(8).toString('hex')}`;
  const command = commandLine(argv, options, token);
  for (let refusals = 0; ; refusals += 1) {
    const session = await pool.session();
    try {
      const { link } = session;
      return await open(link, host, command, async (channel) =>
        attend(pool, channel, link, argv[0] ?? '', options, token),
      );
    } catch (error) {
      if (!(error instanceof SessionRefused) || refusals === maxRefusals) throw error;
    } finally {
      session.release();
    }
    options.signal?.throwIfAborted();
    await sleep(200 * (refusals + 1));
  }
}

/** The server has no room for one more session just now (its limit is lower, or it still closes others). The command did not run. */
class SessionRefused extends HostUnreachable {}

/**
 * sshd makes every session's shell the leader of a process group; it tells its number on stderr before it becomes the command, so that
 * the group can be ended over another session. Older servers do not pass signals on.
 */
function commandLine(argv: readonly string[], options: RunOptions, token: string): string {
  const directory = options.cwd === undefined ? '' : `cd -- ${quote(options.cwd)} && `;
  return `echo ${token} $$ >&2; ${directory}exec ${quoteCommand(argv, options.env)}`;
}

/** `use` is called in the same turn in which the channel opens: a quick command's exit may lie in the same packet. */
async function open<T>(
  link: Link,
  host: HostAddress,
  command: string,
  use: (channel: ClientChannel) => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const lost = (): void => reject(new HostUnreachable(host.name, link.lost?.message ?? 'the connection was lost'));
    if (link.lost) {
      lost();
      return;
    }
    link.client.once('close', lost);
    link.client.exec(command, (error, channel) => {
      link.client.off('close', lost);
      if (!error) resolve(use(channel));
      else if (link.lost) lost();
      else reject(new SessionRefused(host.name, error.message, { cause: error }));
    });
  });
}

async function attend(
  pool: HostPool,
  channel: ClientChannel,
  link: Link,
  program: string,
  options: RunOptions,
  token: string,
): Promise<Captured> {
  const { host } = pool;
  const limit = options.maxOutput ?? defaultMaxOutput;
  const stdout = collector(limit);
  const stderr = stderrCollector(limit, token);
  let end: { code: number | null; signal: string | null } | undefined;
  let failure: Error | undefined;
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  try {
    await new Promise<void>((resolve) => {
      let giving = false;
      function giveUp(error: Error): void {
        if (giving) return;
        giving = true;
        failure = error;
        void endGroup(pool, stderr.group()).finally(() => {
          channel.close();
          resolve();
        });
      }
      if (options.timeout !== undefined) {
        const milliseconds = options.timeout;
        timer = setTimeout(() => giveUp(new CommandTimedOut(host.name, program, milliseconds)), milliseconds);
      }
      onAbort = () => giveUp(abortReason(options.signal));
      options.signal?.addEventListener('abort', onAbort, { once: true });
      channel.on('data', (chunk: Buffer) => {
        stdout.add(chunk);
        try {
          options.onStdout?.(chunk);
        } catch (error) {
          giveUp(error instanceof Error ? error : new Error(String(error)));
        }
      });
      channel.stderr.on('data', (chunk: Buffer) => stderr.add(chunk));
      channel.on('exit', (code: number | null, signal?: string) => {
        end = { code: code ?? null, signal: signal ?? null };
      });
      channel.on('close', () => {
        if (!giving) resolve();
      });
      channel.on('error', (error: Error) => {
        failure ??= new HostUnreachable(host.name, error.message, { cause: error });
        if (!giving) resolve();
      });
      // Writing to a command that reads nothing fails; its exit code says enough.
      channel.stdin.on('error', () => undefined);
      channel.end(options.input ?? '');
    });
  } finally {
    clearTimeout(timer);
    if (onAbort) options.signal?.removeEventListener('abort', onAbort);
  }
  if (failure) throw failure;
  if (end === undefined) {
    throw new HostUnreachable(host.name, link.lost?.message ?? `the connection was lost while ${program} ran`);
  }
  return { ...end, stdout: stdout.bytes(), stderr: stderr.bytes() };
}

function abortReason(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new Error('cancelled', { cause: reason });
}

/** TERM, then KILL for what is left after five seconds. A machine that cannot be reached is left alone: its sshd ends the session. */
async function endGroup(pool: HostPool, group: number | undefined): Promise<void> {
  if (group === undefined) return;
  const script =
    'kill -TERM "-$1" 2>/dev/null || exit 0; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; kill -0 "-$1" 2>/dev/null || exit 0; done; kill -KILL "-$1"; :';
  const ended = execute(pool, ['sh', '-c', script, 'sh', `${group}`], {}).catch(() => undefined);
  const patience = new Promise((resolve) => setTimeout(resolve, 9000).unref());
  await Promise.race([ended, patience]);
}

/** Keeps the first bytes up to the limit: a half of it from the start and the rest from the end. */
function collector(limit: number): { add(chunk: Buffer): void; bytes(): Buffer } {
  const head: Buffer[] = [];
  let headSize = 0;
  let tail: Buffer[] = [];
  let tailSize = 0;
  const half = Math.ceil(limit / 2);

  function add(chunk: Buffer): void {
    const first = chunk.subarray(0, half - headSize);
    if (first.length > 0) {
      head.push(first);
      headSize += first.length;
    }
    const rest = chunk.subarray(first.length);
    if (rest.length === 0) return;
    tail.push(rest);
    tailSize += rest.length;
    if (tailSize > 2 * half) {
      tail = [Buffer.concat(tail).subarray(-half)];
      tailSize = half;
    }
  }

  return { add, bytes: () => Buffer.concat([...head, Buffer.concat(tail).subarray(-half)]) };
}

/** Like a collector, but takes out the line with the number of the process group. */
function stderrCollector(
  limit: number,
  token: string,
): { add(chunk: Buffer): void; bytes(): Buffer; group(): number | undefined } {
  const rest = collector(limit);
  let pending: Buffer | undefined = Buffer.alloc(0);
  let group: number | undefined;

  function add(chunk: Buffer): void {
    if (pending === undefined) {
      rest.add(chunk);
      return;
    }
    pending = Buffer.concat([pending, chunk]);
    const match = new RegExp(`${token} (\\d+)\\n`).exec(pending.toString('latin1'));
    if (match !== null) {
      group = Number(match[1]);
      rest.add(pending.subarray(0, match.index));
      rest.add(pending.subarray(match.index + match[0].length));
      pending = undefined;
    } else if (pending.length > 65_536) {
      rest.add(pending);
      pending = undefined;
    }
  }

  return {
    add,
    bytes: () => (pending === undefined ? rest.bytes() : Buffer.concat([pending, rest.bytes()])),
    group: () => group,
  };
}

/** The connections to one machine. */
class HostPool {
  readonly host: HostAddress;
  private readonly options: HostsOptions;
  private links: Link[] = [];
  private connecting: Promise<Link> | undefined;
  private readonly waiting: (() => void)[] = [];
  private closed = false;

  constructor(host: HostAddress, options: HostsOptions) {
    this.host = host;
    this.options = options;
  }

  /** Proves that the machine answers and is the one that is meant. */
  async ready(): Promise<void> {
    if (!this.links.some((link) => link.lost === undefined)) await this.link();
  }

  async session(): Promise<{ link: Link; release: () => void }> {
    for (;;) {
      const free = this.links.find((link) => link.lost === undefined && link.sessions < sessionsPerConnection);
      if (free) return this.take(free);
      if (this.links.length < connectionsPerHost) {
        await this.link();
        continue;
      }
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    const links = this.links;
    this.links = [];
    await Promise.all(
      links.map(
        (link) =>
          new Promise<void>((resolve) => {
            link.client.once('close', () => resolve());
            link.client.end();
            setTimeout(() => {
              link.client.destroy();
              resolve();
            }, 1000).unref();
          }),
      ),
    );
  }

  private take(link: Link): { link: Link; release: () => void } {
    link.sessions += 1;
    return {
      link,
      release: () => {
        link.sessions -= 1;
        this.waiting.shift()?.();
      },
    };
  }

  /** One new connection at a time: the others wait for it and then look again. */
  private async link(): Promise<Link> {
    this.connecting ??= this.open().finally(() => {
      this.connecting = undefined;
    });
    return this.connecting;
  }

  private async open(): Promise<Link> {
    const { host } = this;
    if (this.closed) throw new HostUnreachable(host.name, 'the connections of this worker are closed');
    const client = new Client();
    const link: Link = { client, sessions: 0, lost: undefined };
    let mismatch: HostKeyMismatch | undefined;
    const config: ConnectConfig = {
      host: host.address,
      port: host.port,
      username: host.user,
      privateKey: this.options.privateKey,
      ...(this.options.passphrase !== undefined && { passphrase: this.options.passphrase }),
      readyTimeout: this.options.connectTimeout ?? 15_000,
      keepaliveInterval: keepaliveSeconds * 1000,
      keepaliveCountMax: 3,
      algorithms: { serverHostKey: pinnedAlgorithms(host) as never },
      hostVerifier: (blob: Buffer) => {
        const shown = `${keyType(blob) ?? '?'} ${blob.toString('base64')}`;
        if (host.hostKeys.includes(shown)) return true;
        mismatch = new HostKeyMismatch(host.name, host.address, fingerprint(shown), host.hostKeys.map(fingerprint));
        return false;
      },
    };
    await new Promise<void>((resolve, reject) => {
      client.once('ready', () => {
        // A command is a few small packets each way: held back for an answer that is itself held back, each would take 40 ms longer.
        client.setNoDelay(true);
        resolve();
      });
      client.on('error', (error) => {
        link.lost ??= error;
        reject(mismatch ?? this.explain(error));
      });
      client.on('close', () => {
        link.lost ??= new Error('the connection was closed');
        this.links = this.links.filter((other) => other !== link);
        for (const wake of this.waiting.splice(0)) wake();
        reject(mismatch ?? new HostUnreachable(host.name, link.lost.message));
      });
      client.connect(config);
    }).catch((error: unknown) => {
      client.destroy();
      throw error;
    });
    this.links.push(link);
    return link;
  }

  private explain(error: Error & { level?: string }): Error {
    const { host } = this;
    if (error.level === 'client-authentication') return new HostRefused(host.name, host.user, { cause: error });
    if (error.level === 'handshake' && /host key/i.test(error.message)) {
      const offered = 'of another type than the pinned ones';
      return new HostKeyMismatch(host.name, host.address, offered, host.hostKeys.map(fingerprint));
    }
    return new HostUnreachable(host.name, error.message, { cause: error });
  }
}

/** Only what is pinned is negotiated, so that a machine with several host keys shows the one that can be compared. */
function pinnedAlgorithms(host: HostAddress): string[] {
  return [...new Set(host.hostKeys.flatMap((key) => algorithmsOf(key.split(' ')[0] ?? '')))];
}
