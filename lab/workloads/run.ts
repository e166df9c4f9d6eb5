import { spawn } from 'node:child_process';

export interface RunOptions {
  cwd?: string;
  /** Added to this process' environment. */
  env?: Record<string, string>;
  input?: string | Buffer;
  /** A non-zero exit is a result, not an error. */
  allowFailure?: boolean;
  /** Milliseconds; default 10 minutes. */
  timeout?: number;
}

export interface RunOutput {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program of this machine; throws with what it said last if it fails, or if it takes too long. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunOutput> {
  const [file = '', ...args] = argv;
  const timeout = options.timeout ?? 600_000;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: 'pipe',
      timeout,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { ...process.env, ...options.env },
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.once('error', reject);
    child.stdin.on('error', () => {
      // the program ended without reading its input; its exit code tells
    });
    child.once('close', (code, signal) => {
      const stdout = Buffer.concat(out).toString();
      const stderr = Buffer.concat(err).toString();
      if (code === 0 || (options.allowFailure === true && signal === null)) {
        resolve({ code, stdout, stderr });
        return;
      }
      const ended = signal === null ? `exit ${String(code)}` : `ended by ${signal} (limit ${timeout / 1000} s)`;
      const said = (stderr.trim() || stdout.trim()).slice(-2000);
      reject(new Error(`${file} ${args.slice(0, 3).join(' ')} …: ${ended}: ${said}`));
    });
    child.stdin.end(options.input);
  });
}
