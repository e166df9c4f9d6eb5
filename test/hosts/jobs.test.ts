import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HostConnection, Hosts } from '../../src/hosts/contract.ts';
import { createJobs } from '../../src/hosts/jobs.ts';
import { freshName, labHosts, machine, script } from './machines.ts';

describe('a job on a machine', () => {
  const jobs = createJobs();
  let hosts: Hosts;
  let old1: HostConnection;

  beforeAll(async () => {
    hosts = await labHosts();
    old1 = await hosts.connect(await machine('old1'));
  });
  afterAll(async () => {
    await hosts.close();
  });

  async function ended(name: string): Promise<void> {
    await expect.poll(async () => (await jobs.state(old1, name)).state, { timeout: 20_000 }).toBe('exited');
  }

  it('leaves exit code and output to be read when it has ended', async () => {
    const name = freshName('job');

    expect(await jobs.state(old1, name)).toEqual({ state: 'absent' });
    const answer = await jobs.start(old1, {
      name,
      argv: ['sh', '-c', 'echo "out $A"; echo err >&2; exit 3'],
      env: { A: "it's" },
      token: 'one',
    });
    await ended(name);

    expect(answer).toBe('started');
    expect(await jobs.state(old1, name)).toMatchObject({ state: 'exited', exitCode: 3, result: 'exit-code' });
    expect((await jobs.read(old1, name, 'stdout', 0)).toString()).toBe("out it's\n");
    expect((await jobs.read(old1, name, 'stdout', 4)).toString()).toBe("it's\n");
    expect((await jobs.read(old1, name, 'stderr', 0)).toString()).toBe('err\n');
    expect(await script(old1, `stat -c %a /var/lib/ferry/jobs/${name}/stdout`)).toBe('600\n');
    await jobs.clear(old1, name);
    expect(await jobs.state(old1, name)).toEqual({ state: 'absent' });
  });

  it('never runs twice for one token, and again for the next', async () => {
    const name = freshName('job');
    const log = `/root/${name}.log`;
    const job = { name, argv: ['sh', '-c', `echo ran >>${log}`] };

    expect(await jobs.start(old1, { ...job, token: 'one' })).toBe('started');
    await ended(name);
    expect(await jobs.start(old1, { ...job, token: 'one' })).toBe('attached');
    expect(await script(old1, `cat ${log}`)).toBe('ran\n');
    expect(await jobs.start(old1, { ...job, token: 'two' })).toBe('started');
    await ended(name);

    expect(await script(old1, `cat ${log}; rm ${log}`)).toBe('ran\nran\n');
    await jobs.clear(old1, name);
  });

  it('starts once when many ask at the same time', async () => {
    const name = freshName('job');

    const answers = await Promise.all(
      Array.from({ length: 6 }, async (_, index) =>
        jobs.start(old1, { name, argv: ['sleep', '30'], token: `token-${index}` }),
      ),
    );

    expect(answers.filter((answer) => answer === 'started')).toHaveLength(1);
    await jobs.stop(old1, name);
    await jobs.clear(old1, name);
  });

  it('outlives the connection that started it', async () => {
    const name = freshName('job');
    const other = await labHosts();
    const connection = await other.connect(await machine('old1'));

    await jobs.start(connection, { name, argv: ['sleep', '2'], token: 'one' });
    await other.close();

    expect((await jobs.state(old1, name)).state).toBe('running');
    await ended(name);
    expect((await jobs.state(old1, name)).exitCode).toBe(0);
    await jobs.clear(old1, name);
  });

  it('ends everything of a job within ten seconds, even what ignores TERM and left its session', async () => {
    const name = freshName('job');
    const argv = [
      'bash',
      '-c',
      `trap '' TERM; setsid bash -c "trap '' TERM; exec -a ${name} sleep 500" & sleep 500; sleep 500`,
    ];
    await jobs.start(old1, { name, argv, token: 'one' });
    await expect.poll(async () => script(old1, `pgrep -fc '^${name} 500' || :`), { timeout: 5000 }).toBe('1\n');

    const begin = Date.now();
    await jobs.stop(old1, name);

    expect(Date.now() - begin).toBeLessThan(10_000);
    expect(await script(old1, `pgrep -fc '^${name} 500' || :`)).toBe('0\n');
    const state = await jobs.state(old1, name);
    expect(state.state).toBe('exited');
    expect(state.exitCode).toBeUndefined();
    await jobs.stop(old1, name);
    await jobs.clear(old1, name);
  });
});
