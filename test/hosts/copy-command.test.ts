import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { promisify, stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import { openMover } from './transfer-setup.ts';

const run = promisify(execFile);

interface Ended {
  code: number | null;
  stdout: string[];
  stderr: string;
}

describe('ferry copy', () => {
  const queue = freshName('ferry-copy');
  const trees: string[] = [];
  let mover: Mover;
  let worker: ChildProcess;

  beforeAll(async () => {
    mover = await openMover();
    // A queue of its own: other tests begin and end workers as well.
    worker = spawn('ferry', ['worker', '--copies-only', '--task-queue', queue], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, KUBECONFIG: '' },
    });
    // Until then the command takes the queue for one that nobody serves.
    await new Promise<void>((resolve, reject) => {
      let said = '';
      worker.stderr?.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes(`serves task queue ${queue}`)) resolve();
      });
      worker.once('exit', () => reject(new Error(`the worker is gone: ${said}`)));
    });
  });
  afterAll(async () => {
    const gone = new Promise((resolve) => worker.once('exit', resolve));
    worker.kill('SIGKILL');
    await gone;
    for (const machine of [mover.source, mover.destination]) await script(machine, `rm -rf ${trees.join(' ')}`);
    await mover.close();
  });

  /** Runs the command as people do; `during` gets the running process and what it has said so far. */
  async function ferry(
    args: string[],
    during?: (child: ChildProcess, said: () => string) => Promise<void>,
  ): Promise<Ended> {
    const child = spawn('ferry', args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } });
    const said = { out: '', err: '' };
    child.stdout.on('data', (chunk: Buffer) => (said.out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (said.err += chunk.toString()));
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    await during?.(child, () => said.err);
    const code = await ended;
    return {
      code,
      stdout: stripVTControlCharacters(said.out).trim().split('\n'),
      stderr: stripVTControlCharacters(said.err),
    };
  }

  const copy = (from: string, to: string, ...options: string[]): string[] => [
    ...['copy', from, to, '--task-queue', queue],
    ...options,
  ];

  async function filled(prefix: string, mebibytes = 1): Promise<string> {
    const path = `/srv/${freshName(prefix)}`;
    trees.push(path, `${path}-new`);
    await script(
      mover.source,
      `mkdir -p '${path}/d' && cd '${path}'; head -c ${mebibytes}M /dev/urandom >data; ln data d/data; echo a >d/a`,
    );
    return path;
  }

  /** Mebibytes of a copy. */
  const arrived = async (path: string): Promise<number> =>
    Number(await script(mover.destination, `{ du -sm '${path}-new' 2>/dev/null || echo 0; } | cut -f1`));

  const listing = (path: string): string =>
    `cd '${path}'; find . -printf '%p %y %m %s %T@ %n\\n' | sort; sha256sum data d/a`;

  it('moves a directory to another path of the same machine: live, then the final delta, proved', async () => {
    const path = await filled('switch');
    const [from, to] = [`old1:${path}/`, `old1:${path}-new/`];

    const live = await ferry(copy(from, to, '--live'));
    await script(
      mover.source,
      `cd '${path}'; echo b >>d/a; rm d/data; mkdir e; touch -d '2001-02-03 04:05:06.789012345' d e .`,
    );
    const final = await ferry(copy(from, to, '--verify', 'full'));
    const [left, right] = await Promise.all([path, `${path}-new`].map((tree) => script(mover.source, listing(tree))));
    const again = await ferry(copy(from, to, '-o', 'json'));

    expect(live.code).toBe(0);
    expect(live.stdout[0]).toMatch(/^fresh {2}\S+ \S?iB, \S+ \S?iB moved in \d+ passes, last delta about /);
    expect(live.stdout.at(-1)).toBe('Nothing is proved yet: stop what writes there, then run it without --live.');
    expect(final.code).toBe(0);
    expect(final.stdout[0]).toMatch(/^proved {2}/);
    expect(final.stdout[1]).toMatch(/^full: 5 entries, .* both sides in .* s, root digest \w{12} on both$/);
    expect(final.stdout[2]).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(right).toBe(left);
    expect(again.code).toBe(0);
    expect(JSON.parse(again.stdout.join('\n'))).toMatchObject({
      digest: final.stdout[2],
      destinationState: 'verified',
    });
  });

  it('does not put old content over what was written after the proof, however often it is asked, unless told to', async () => {
    const path = await filled('used');
    const command = copy(`old1:${path}/`, `new1:${path}-new/`);
    const there = `cat '${path}-new/d/a'`;

    const proved = await ferry(command);
    await script(mover.destination, `echo paid >>'${path}-new/d/a'`);
    const refused = [await ferry(command), await ferry(command), await ferry([...command, '--live'])];
    const kept = await script(mover.destination, there);
    const told = await ferry([...command, '--discard-changes']);
    const after = await script(mover.destination, there);

    expect(proved.code).toBe(0);
    expect(refused.map(({ code }) => code)).toEqual([1, 1, 1]);
    for (const { stderr } of refused) {
      expect(stderr).toContain(`new1:${path}-new was written since it was proved to be the same as its source`);
      expect(stderr).toContain(`"d/a" changed there afterwards`);
      expect(stderr).toContain(`ferry copy old1:${path}/ new1:${path}-new/ --discard-changes`);
    }
    expect(kept.trim()).toBe('a\npaid');
    expect(told.code).toBe(0);
    expect(after.trim()).toBe('a');
  });

  it('ends with the watching at Ctrl-C; the copy goes on, and the same command finds it again', async () => {
    const path = await filled('watched', 60);
    const command = copy(`old1:${path}/`, `new1:${path}-new/`, '--live', '--limit', '2000');
    const left = await ferry(command, async (child, said) => {
      await expect.poll(said, { timeout: 60_000, interval: 100 }).toContain('copying');
      child.kill('SIGINT');
    });
    await expect.poll(async () => arrived(path), { timeout: 60_000 }).toBeGreaterThan(4);
    const found = await ferry(command);
    const passes = found.stderr.split('\n').filter((line) => line.includes(' pass '));

    expect(left.code).toBe(130);
    expect(left.stdout).toEqual(['']);
    expect(left.stderr).toMatch(
      /Stopped watching\. The copy goes on; the same command finds it again\. End it: temporal workflow cancel -w copy-\S+$/m,
    );
    expect(found.code).toBe(0);
    expect(found.stdout[0]).toMatch(/^fresh/);
    // One copy, not two: its first pass moved everything once.
    expect(passes[0]).toMatch(/pass 1: moved 60(?:\.0)? MiB of 120(?:\.0)? MiB/);
  });

  it('does the work itself where nobody runs a worker, and takes it up again after Ctrl-C', async () => {
    const path = await filled('alone', 40);
    const command = ['copy', `old1:${path}/`, `new1:${path}-new/`, '--task-queue', freshName('nobody')];

    const left = await ferry([...command, '--live', '--limit', '2000'], async (child, said) => {
      await expect.poll(said, { timeout: 60_000, interval: 100 }).toContain('copying');
      child.kill('SIGINT');
    });
    const there = await arrived(path);
    const live = await ferry([...command, '--live', '--limit', '2000']);
    const proved = await ferry(command);
    const [from, to] = [
      await script(mover.source, listing(path)),
      await script(mover.destination, listing(`${path}-new`)),
    ];

    expect(left.code, left.stderr).toBe(130);
    // It does not keep the prompt until the pass, or the server's patience, is at its end.
    expect(there).toBeLessThan(25);
    expect(left.stderr).toMatch(/^no worker serves task queue \S+: this command does the work itself$/m);
    expect(left.stderr).toContain('Stopped. What runs on the machines goes on; the same command takes it up again.');
    expect(live.stdout[0]).toMatch(/^fresh/);
    expect(live.code).toBe(0);
    expect(proved.code).toBe(0);
    expect(proved.stdout[0]).toMatch(/^proved/);
    expect(to).toBe(from);
  });

  it('ends with 1, cause and way out while somebody writes, with 2 where it was typed wrong, and leaves nothing', async () => {
    const path = await filled('busy');
    await script(
      mover.source,
      `setsid sleep 60 >>'${path}/log' 2>/dev/null </dev/null & echo $! >'/run/holder-of-copy'`,
    );
    const busy = await ferry(copy(`old1:${path}/`, `new1:${path}-new/`));
    await script(mover.source, 'kill $(cat /run/holder-of-copy)');
    const typed = await ferry(copy(`old1:${path}/../x`, `new1:${path}-new/`));
    const onto = await ferry(copy(`old1:${path}/`, `old1:${path}/d/`));

    expect(busy.code).toBe(1);
    expect(busy.stderr).toMatch(
      /the copy is not proved: \S+ is still in use: sleep \(pid \d+.*has log open for writing/,
    );
    expect(busy.stderr).toContain('stop it on old1');
    expect(busy.stdout).toEqual(['']);
    expect([typed.code, onto.code]).toEqual([2, 1]);
    expect(typed.stderr).toContain('nothing was done');
    expect(onto.stderr).toContain('lies inside the other');
    expect(await script(mover.source, `ls /var/lib/ferry/transfers | grep copy- || :`)).toBe('');
  });

  it('is the workflow with the smallest input that makes one', async () => {
    const path = await filled('smallest');
    const host = (name: 'old1' | 'new1'): object => {
      const { address, hostKeys } = (name === 'old1' ? mover.source : mover.destination).host;
      return { name, address, hostKeys };
    };
    const input = {
      migration: 'by-hand',
      transfer: {
        id: freshName('smallest'),
        subject: { type: 'host-service', service: 'x' },
        source: { host: 'old1', path },
        destination: { host: 'new1', path: `${path}-new` },
      },
      source: host('old1'),
      destination: host('new1'),
      mode: 'final',
    };
    const options = [
      '--task-queue',
      queue,
      '--type',
      'replicateDirectory',
      '-w',
      input.transfer.id,
      '--output',
      'json',
    ];
    const { stdout } = await run('temporal', ['workflow', 'execute', ...options, '--input', JSON.stringify(input)]);
    const { result } = JSON.parse(stdout) as { result: { digest: string; proof: string } };

    expect(result.digest).toMatch(/^sha256:/);
    expect(result.proof).toMatch(/^full: 5 entries/);
    expect(await script(mover.destination, listing(`${path}-new`))).toBe(await script(mover.source, listing(path)));
  });
});
