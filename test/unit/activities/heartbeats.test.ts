import { MockActivityEnvironment } from '@temporalio/testing';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { defaultDeadlines } from '../../../src/activities/deadlines.ts';
import type { CommandRunner } from '../../../src/activities/helm.ts';
import { findHelm } from '../../../src/activities/helm.ts';
import { createSystemdActivities } from '../../../src/activities/systemd.ts';
import type { HostConnection, Hosts, RunResult } from '../../../src/hosts/contract.ts';
import type { Host } from '../../../src/plan/plan.ts';

afterEach(() => {
  vi.useRealTimers();
});

/** Longest silence between two heartbeats of a step whose commands take `seconds` each, in seconds of a clock of its own. */
async function longestSilence(
  seconds: number,
  answer: (argv: readonly string[]) => string,
  step: (runner: CommandRunner) => Promise<unknown>,
): Promise<number> {
  vi.useFakeTimers();
  const environment = new MockActivityEnvironment();
  let last = Date.now();
  let longest = 0;
  const beat = (): void => {
    longest = Math.max(longest, (Date.now() - last) / 1000);
    last = Date.now();
  };
  environment.on('heartbeat', beat);
  const runner: CommandRunner = {
    run: (argv) =>
      new Promise<RunResult>((resolve) => {
        setTimeout(() => resolve({ code: 0, signal: null, stderr: '', stdout: answer(argv) }), seconds * 1000);
      }),
  };
  const over = new AbortController();
  const running = environment
    .run(() => step(runner))
    .finally(() => {
      beat();
      over.abort();
    });
  while (!over.signal.aborted) await vi.advanceTimersByTimeAsync(1000);
  await running;
  return longest;
}

const host: Host = { name: 'old1', address: '10.0.0.11', port: 22, user: 'root', hostKeys: [], role: 'old' };

describe('a worker that waits for a slow machine', () => {
  it('is heard while Helm is looked for, lists and uninstalls', async () => {
    const answer = (argv: readonly string[]): string => (argv[1] === 'version' ? 'v3.22.0' : '[]');

    const silence = await longestSilence(55, answer, async (runner) => {
      const helm = await findHelm(runner, 'old1');
      await helm.exists('resource', 'kafka');
      await helm.uninstall('resource', 'kafka');
    });

    expect(silence).toBeLessThanOrEqual(6);
  });

  it('is heard while many containers end', async () => {
    let isStopped = false;
    const killed = new Set<string>();
    const tasks = Array.from({ length: 12 }, (_, index) => `task${index}`);
    const answer = (argv: readonly string[]): string => {
      const line = argv.join(' ');
      if (line.startsWith('systemctl stop')) isStopped = true;
      if (line.startsWith('systemctl show'))
        return `LoadState=loaded\nActiveState=${isStopped ? 'inactive' : 'active'}\n`;
      if (line.includes('task kill')) killed.add(argv.at(-1) ?? '');
      if (line.includes('task ls')) {
        return [
          'TASK PID STATUS',
          ...tasks.filter((task) => !killed.has(task)).map((task) => `${task} 1 RUNNING`),
        ].join('\n');
      }
      return '';
    };

    const silence = await longestSilence(10, answer, async (runner) => {
      const connection = {
        host,
        run: (argv: readonly string[]) => runner.run(argv),
        readFile: () => Promise.resolve(undefined),
        writeFile: () => Promise.resolve(),
      } as unknown as HostConnection;
      const hosts: Hosts = { connect: () => Promise.resolve(connection), close: () => Promise.resolve() };
      const { stopHostServices } = createSystemdActivities({ hosts, deadlines: defaultDeadlines });
      await stopHostServices({ migration: 'demo', host, units: ['containerd'] });
    });

    expect(killed.size).toBe(12);
    expect(silence).toBeLessThanOrEqual(6);
  });
});
