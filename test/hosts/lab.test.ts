import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { freshName } from './machines.ts';
import { seeded } from './random.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '..', '..');
const random = seeded();

/** A lab of its own inside this one: to the kernel it is one more set of namespaces. */
class NestedLab {
  readonly name = freshName('nested');
  readonly state = join(
    process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local', 'state'),
    'proton-ferry',
    'lab',
    this.name,
  );
  private readonly env = { ...process.env, IN_LAB: '', LAB_NAME: this.name };

  private argv(command: string, ...args: string[]): [string, string[]] {
    return [process.execPath, [join(root, 'lab', 'cli.ts'), command, ...args]];
  }

  startUp(): ChildProcess {
    const [file, args] = this.argv('up', '--light', '--hosts', 'new3', '--no-temporal', '--while', `${process.pid}`);
    return spawn(file, args, { env: this.env, stdio: 'ignore' });
  }

  async up(): Promise<number> {
    const child = this.startUp();
    return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
  }

  async cli(command: string, ...args: string[]): Promise<string> {
    const [file, all] = this.argv(command, ...args);
    const { stdout } = await run(file, all, { env: this.env });
    return stdout.trim();
  }

  pid(file: 'keeper.pid' | 'init.pid'): number | undefined {
    try {
      const pid = Number(readFileSync(join(this.state, file), 'utf8'));
      return pid > 1 ? pid : undefined;
    } catch {
      return undefined;
    }
  }
}

function pids(): number[] {
  return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function link(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}

function isZombie(pid: number): boolean {
  return / Z /.test(read(`/proc/${pid}/stat`).replace(/^.*\)/s, ''));
}

interface Traces {
  processes: string[];
  mounts: string[];
  namespaces: string[];
  cgroups: string[];
  state: boolean;
}

const kinds = ['net', 'mnt', 'pid', 'uts'];

function isOfMachine(pid: number, keeper: number): boolean {
  return read(`/proc/${pid}/cgroup`).includes(`/ferry-${keeper}-`);
}

/** Namespaces, other than ours, of the keeper's descendants and of everything in the machines' cgroups. */
function namespacesOf(keeper: number): Set<string> {
  const ours = new Set(kinds.map((kind) => link(`/proc/self/ns/${kind}`)));
  const parents = new Map(
    pids().map((pid) => [pid, Number(/^PPid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)]),
  );
  const isBelow = (pid: number): boolean => {
    for (let current = pid; current > 0; current = parents.get(current) ?? 0) if (current === keeper) return true;
    return false;
  };
  const found = [...parents.keys()]
    .filter((pid) => isBelow(pid) || isOfMachine(pid, keeper))
    .flatMap((pid) => kinds.map((kind) => link(`/proc/${pid}/ns/${kind}`)));
  return new Set(found.filter((name) => name !== '' && !ours.has(name)));
}

function tracesOf(lab: NestedLab, keeper: number, namespaces: ReadonlySet<string>): Traces {
  const alive = pids().filter((pid) => pid !== process.pid && !isZombie(pid));
  const roots = ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name))];
  return {
    processes: alive
      .map((pid) => ({ pid, line: read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ') }))
      .filter(
        ({ pid, line }) => line.includes(lab.name) || line.includes(`sweep ${keeper} `) || isOfMachine(pid, keeper),
      )
      .map(({ pid, line }) => `${pid} ${line}`),
    mounts: alive.flatMap((pid) =>
      read(`/proc/${pid}/mountinfo`)
        .split('\n')
        .filter((line) => line.includes(lab.state)),
    ),
    namespaces: alive.flatMap((pid) =>
      kinds.map((kind) => link(`/proc/${pid}/ns/${kind}`)).filter((name) => namespaces.has(name)),
    ),
    cgroups: roots.flatMap((directory) => {
      try {
        return readdirSync(directory).filter((name) => name.startsWith(`ferry-${keeper}-`));
      } catch {
        return [];
      }
    }),
    state: existsSync(lab.state),
  };
}

const nothing: Traces = { processes: [], mounts: [], namespaces: [], cgroups: [], state: false };

describe(`a lab whose keeper is killed, seed ${random.seed}`, { retry: 0 }, () => {
  let lab: NestedLab | undefined;

  afterEach(async () => {
    await lab?.cli('down');
  });

  async function provesClean(current: NestedLab, keeper: number, namespaces: ReadonlySet<string>): Promise<void> {
    await expect.poll(() => tracesOf(current, keeper, namespaces), { timeout: 40_000, interval: 250 }).toEqual(nothing);
  }

  it('leaves nothing behind and starts again', async () => {
    lab = new NestedLab();
    expect(await lab.up()).toBe(0);
    const keeper = lab.pid('keeper.pid') ?? 0;
    const namespaces = namespacesOf(keeper);
    const before = tracesOf(lab, keeper, namespaces);
    expect(await lab.cli('ssh', 'new3', 'hostname')).toBe('new3');

    process.kill(keeper, 'SIGKILL');
    await provesClean(lab, keeper, namespaces);

    // What was looked for was there.
    expect(before.processes.length).toBeGreaterThan(8);
    expect(before.mounts.length).toBeGreaterThan(0);
    expect(before.cgroups.length).toBeGreaterThan(2);
    expect(namespaces.size).toBeGreaterThanOrEqual(6);
    expect(before.state).toBe(true);

    expect(await lab.up()).toBe(0);
    const second = lab.pid('keeper.pid') ?? 0;
    const others = namespacesOf(second);
    expect(await lab.cli('ssh', 'new3', 'hostname')).toBe('new3');
    await lab.cli('down');
    await provesClean(lab, second, others);
  });

  it.each([
    { who: 'keeper', after: random.below(400) },
    { who: 'keeper', after: 400 + random.below(1500) },
    { who: 'up', after: random.below(700) },
  ])('leaves nothing behind when $who dies $after ms after the namespaces are there', async ({ who, after }) => {
    lab = new NestedLab();
    const current = lab;
    const up = current.startUp();
    const ended = new Promise((resolve) => up.once('exit', resolve));
    await expect.poll(() => current.pid('init.pid'), { timeout: 20_000, interval: 20 }).toBeDefined();
    const keeper = current.pid('keeper.pid') ?? 0;
    await new Promise((resolve) => setTimeout(resolve, after));
    const namespaces = namespacesOf(keeper);

    // It may have come up already: then it is taken down.
    if (who === 'up') up.kill('SIGKILL');
    else process.kill(keeper, 'SIGKILL');
    await ended;
    if (existsSync(join(current.state, 'ready.json'))) await current.cli('down');
    await provesClean(current, keeper, namespaces);

    expect(await current.up()).toBe(0);
    await current.cli('down');
  });
});
