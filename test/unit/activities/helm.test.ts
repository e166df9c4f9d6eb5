import { describe, expect, it } from 'vitest';
import { type CommandRunner, findHelm, lastLines, localRunner } from '../../../src/activities/helm.ts';

interface Answer {
  code: number;
  stdout?: string;
  stderr?: string;
}

/** A machine on which these commands answer so; everything else does not exist. */
function machine(answers: Record<string, Answer>): { runner: CommandRunner; asked: string[] } {
  const asked: string[] = [];
  const runner: CommandRunner = {
    run: (argv) => {
      const command = argv.join(' ');
      asked.push(command);
      const key = Object.keys(answers).find((start) => command.startsWith(start));
      const { code, stdout = '', stderr = '' } = key === undefined ? { code: 127 } : (answers[key] as Answer);
      return Promise.resolve({ code, signal: null, stdout, stderr });
    },
  };
  return { runner, asked };
}

const version3 = { code: 0, stdout: 'v3.22.0+g123\n' };

describe('helm', () => {
  it.each([
    { what: 'helm3 first', answers: { 'helm3 version': version3, 'helm version': version3 }, binary: 'helm3' },
    { what: 'helm where it is version 3', answers: { 'helm version': version3 }, binary: 'helm' },
  ])('uses $what', async ({ answers, binary }) => {
    const { runner, asked } = machine({ ...answers, [`${binary} list`]: { code: 0, stdout: '[]' } });

    expect(await (await findHelm(runner, 'old1')).exists('resource', 'kafka')).toBe(false);
    expect(asked.at(-1)).toBe(`${binary} list --namespace resource --all --filter ^kafka$ --output json`);
  });

  it('does not use helm 2', async () => {
    const { runner } = machine({ 'helm version': { code: 0, stdout: 'v2.17.0+ga690bad\n' } });

    await expect(findHelm(runner, 'old1')).rejects.toMatchObject({ type: 'NeedsHuman' });
  });

  it('finds a release of exactly this name', async () => {
    const list = { code: 0, stdout: JSON.stringify([{ name: 'kafka', status: 'uninstalling' }]) };
    const { runner } = machine({ 'helm3 version': version3, 'helm3 list': list });
    const helm = await findHelm(runner, 'old1');

    expect(await helm.exists('resource', 'kafka')).toBe(true);
    expect(await helm.exists('resource', 'kaf')).toBe(false);
  });

  it('takes a release that is gone for uninstalled', async () => {
    const stderr = 'Error: uninstall: Release not loaded: kafka: release: not found\n';
    const { runner } = machine({ 'helm3 version': version3, 'helm3 uninstall': { code: 1, stderr } });

    await (await findHelm(runner, 'old1')).uninstall('resource', 'kafka');
  });

  it.each([
    {
      stderr: 'Error: Kubernetes cluster unreachable: dial tcp 10.0.0.1:6443: connect: connection refused',
      type: 'Transient',
    },
    { stderr: 'Error: uninstall: etcdserver: leader changed', type: 'Transient' },
    { stderr: 'Error: 1 error occurred: timed out waiting for the condition', type: 'Transient' },
    { stderr: 'Error: secrets is forbidden', type: 'NeedsHuman' },
  ])('$type: $stderr', async ({ stderr, type }) => {
    const { runner } = machine({
      'helm3 version': version3,
      'helm3 list': { code: 1, stderr },
      'helm3 uninstall': { code: 1, stderr },
    });
    const helm = await findHelm(runner, 'old1');

    await expect(helm.exists('resource', 'kafka')).rejects.toMatchObject({ type });
    await expect(helm.uninstall('resource', 'kafka')).rejects.toMatchObject({ type });
  });

  it('runs commands on the worker without a shell', async () => {
    const result = await localRunner.run(['printf', '%s', '$(id) `id`'], { timeout: 5000 });

    expect(result).toEqual({ code: 0, signal: null, stdout: '$(id) `id`', stderr: '' });
    expect((await localRunner.run(['no-such-program-here'])).code).toBe(127);
    expect((await localRunner.run(['cat'], { input: 'in' })).stdout).toBe('in');
  });

  it('keeps the end of what a tool said', () => {
    expect(lastLines('a\n\nb\n  c \nd\n')).toBe('b; c; d');
  });
});
