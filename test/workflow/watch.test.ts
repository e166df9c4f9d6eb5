import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import type { Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Handle, Harness } from './harness.ts';
import { approve, startHarness, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { Screen } from './screen.ts';
import { createWorld } from './world.ts';

const bin = join(import.meta.dirname, '..', '..', 'src', 'client', 'bin.ts');
const pseudoTerminal = join(import.meta.dirname, 'pseudo-terminal.py');

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development');
});
afterAll(() => harness.stop());

/** A migration that stands at its first gate and stays as it is. */
async function atGate(cluster: string): Promise<Handle> {
  const plan = planOf(cluster, { limits: { refreshSeconds: 86_400 } });
  createWorld(plan);
  const handle = await harness.start(plan);
  await untilGate(handle, 'open-downtime');
  return handle;
}

interface Running {
  child: ChildProcess;
  /** Everything that came out so far. */
  output: () => string;
  ended: Promise<number | null>;
}

function run(argv: readonly string[], address = harness.environment.address): Running {
  const [file = '', ...args] = argv;
  const { NO_COLOR: _, ...inherited } = process.env;
  const child = spawn(file, args, {
    env: { ...inherited, TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: 'default', TERM: 'xterm-256color' },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let output = '';
  // Characters of several bytes may come in two parts.
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => (output += part));
  }
  return { child, output: () => output, ended: new Promise((resolve) => child.once('close', resolve)) };
}

async function untilSaid({ output }: Running, pattern: RegExp, since = 0, milliseconds = 20_000): Promise<number> {
  const started = Date.now();
  while (!pattern.test(output().slice(since))) {
    if (Date.now() - started > milliseconds) throw new Error(`never said ${String(pattern)}:\n${output()}`);
    await sleep(50);
  }
  return Date.now() - started;
}

describe('ferry watch on a terminal of 24 lines and 80 columns', () => {
  it('fits, draws itself anew in place, and says on Ctrl-C that the migration goes on', async () => {
    const handle = await atGate('on-screen');
    const watch = run([
      'python3',
      pseudoTerminal,
      ...[process.execPath, bin, 'watch', 'migrate-on-screen', '--interval', '0.2'],
    ]);
    const screen = new Screen(24, 80);
    let read = 0;
    const look = (): string => {
      const output = watch.output();
      screen.write(output.slice(read));
      read = output.length;
      return screen.text;
    };
    const shows = (pattern: RegExp): Promise<void> => expect.poll(look, { timeout: 20_000 }).toMatch(pattern);

    await shows(/gate open-downtime awaits/);
    const first = look();
    await approve(handle, 'open-downtime');
    await shows(/gate remove-nodes awaits/);
    const second = look();
    watch.child.stdin?.write('\u0003');
    const code = await watch.ended;
    const fitted = { scrolled: screen.scrolled, overflowed: screen.overflowed };
    const last = look();
    const { state } = await untilGate(handle, 'remove-nodes');
    await handle.terminate();

    expect(first).toContain('ferry approve open-downtime migrate-on-screen --reason');
    expect(first).toContain('Ctrl-C stops watching; the migration goes on.');
    for (const shown of [first, second]) {
      expect(shown.split('\n').length).toBeLessThanOrEqual(24);
      expect(shown.match(/on-screen {2}awaiting-gate/g)).toHaveLength(1);
      expect(shown.match(/Ctrl-C stops watching/g)).toHaveLength(1);
    }
    // The old picture is gone, not above the new one.
    expect(second).not.toContain('open-downtime awaits');
    expect(second).toMatch(/downtime {2}running \d+s/);
    expect(fitted).toEqual({ scrolled: 0, overflowed: 0 });
    expect(watch.output()).toContain('\u001b[');
    expect(last).toContain('Stopped watching. The migration goes on.\nLook again: ferry watch migrate-on-screen');
    // As the shell of a person counts an interrupted command.
    expect(code).toBe(130);
    expect(state).toBe('awaiting-gate');
  });
});

/** A road to the server that can be closed: connections are refused, or nothing comes through any more. */
class Road {
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;
  private isSilent = false;
  port = 0;

  async open(): Promise<void> {
    this.isSilent = false;
    for (const socket of this.sockets) socket.destroy();
    this.server ??= await this.listen();
  }

  /** As a server that ended. */
  async close(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    const closed = new Promise((resolve) => server?.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  /** As a machine that vanished from the network. */
  silence(): void {
    this.isSilent = true;
    for (const socket of this.sockets) socket.unpipe().pause();
  }

  private async listen(): Promise<Server> {
    const [host = '', port = ''] = harness.environment.address.split(':');
    const server = createServer((near) => {
      if (this.isSilent) {
        this.keep(near);
        return;
      }
      const far = connect(Number(port), host);
      this.keep(near);
      this.keep(far);
      near.pipe(far).pipe(near);
      near.once('close', () => far.destroy());
      far.once('close', () => near.destroy());
    });
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve));
    this.port = (server.address() as AddressInfo).port;
    return server;
  }

  private keep(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.sockets.delete(socket));
  }
}

describe('ferry watch without its server', () => {
  it('says so within seconds, goes on by itself when it is back, and can be ended meanwhile', async () => {
    const handle = await atGate('out-of-sight');
    const road = new Road();
    await road.open();
    const address = `127.0.0.1:${road.port}`;
    const watch = run([process.execPath, bin, 'watch', 'out-of-sight', '--interval', '0.2'], address);
    await untilSaid(watch, /gate open-downtime awaits/);
    const away = new RegExp(`Temporal does not answer at ${address}; trying again`);

    const times: Record<string, number> = {};
    let before = watch.output().length;
    await road.close();
    times['refused'] = await untilSaid(watch, away, before);
    // Long enough for a client to lose its patience.
    await sleep(6000);
    await road.open();
    times['back'] = await untilSaid(watch, /answers again/, before);

    before = watch.output().length;
    road.silence();
    times['silent'] = await untilSaid(watch, away, before);
    await handle.signal('pause', { by: 'li', reason: 'unseen' });
    await road.open();
    times['heard'] = await untilSaid(watch, /li sent pause \(signal\): unseen/, before);

    before = watch.output().length;
    road.silence();
    await untilSaid(watch, away, before);
    const interrupted = Date.now();
    watch.child.kill('SIGINT');
    const code = await watch.ended;
    times['ended'] = Date.now() - interrupted;
    await road.close();
    await handle.terminate();

    expect(code).toBe(130);
    expect(watch.output()).toContain('Stopped watching. The migration goes on');
    expect(watch.output().match(/trying again/g)).toHaveLength(3);
    expect(times['refused']).toBeLessThan(8000);
    expect(times['silent']).toBeLessThan(8000);
    expect(times['back']).toBeLessThan(8000);
    expect(times['heard']).toBeLessThan(8000);
    expect(times['ended']).toBeLessThan(3000);
  });
});
