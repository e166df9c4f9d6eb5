/* What a machine can be asked. Implementations live beside this file; product code depends on these shapes only. */

export interface HostAddress {
  name: string;
  address: string;
  port: number;
  user: string;
  /** Pinned public keys, `ssh-ed25519 AAAA…`; a host that shows another key is refused. */
  hostKeys: string[];
}

export interface RunOptions {
  /** Written to stdin, then closed. The way secrets reach a host. */
  input?: string | Buffer;
  env?: Record<string, string>;
  cwd?: string;
  /** Milliseconds; the remote process group is ended when it passes. */
  timeout?: number;
  signal?: AbortSignal;
  /** Bytes of stdout and stderr kept each; default 1 MiB. */
  maxOutput?: number;
  onStdout?: (chunk: Buffer) => void;
}

export interface RunResult {
  /** Exit code, or null when a signal ended it. */
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** A connection to one machine: argv in, result out. A non-zero exit is a result, not an exception; a lost connection throws HostUnreachable. */
export interface HostConnection {
  readonly host: HostAddress;
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult>;
  readFile(path: string): Promise<Buffer | undefined>;
  /** Atomic (temp file, fsync, rename), with this mode from the first byte. */
  writeFile(path: string, content: string | Buffer, mode: number): Promise<void>;
}

/** Pool of connections by host; one per worker. */
export interface Hosts {
  connect(host: HostAddress): Promise<HostConnection>;
  close(): Promise<void>;
}

export interface JobState {
  state: 'absent' | 'running' | 'exited';
  exitCode?: number;
  /** systemd's Result, e.g. success, exit-code, signal, oom-kill. */
  result?: string;
  startedAt?: string;
}

/**
 * A long command as a transient systemd unit `ferry-<name>.service` on a machine: it outlives worker and connection, and there is at most
 * one of a name. stdout and stderr go to files (0600) under /var/lib/ferry/jobs/<name>/ that the observer reads from an offset.
 */
export interface Jobs {
  /** Starts it unless a unit of that name runs already (then answers 'attached'); an exited one of an earlier token is cleared first. */
  start(
    connection: HostConnection,
    job: { name: string; argv: readonly string[]; env?: Record<string, string>; cwd?: string; token: string },
  ): Promise<'started' | 'attached'>;
  state(connection: HostConnection, name: string): Promise<JobState>;
  /** Bytes of stdout or stderr from an offset. */
  read(connection: HostConnection, name: string, stream: 'stdout' | 'stderr', offset: number): Promise<Buffer>;
  /** Ends the whole cgroup (TERM, then KILL within 10 s) and proves it. */
  stop(connection: HostConnection, name: string): Promise<void>;
  clear(connection: HostConnection, name: string): Promise<void>;
}
