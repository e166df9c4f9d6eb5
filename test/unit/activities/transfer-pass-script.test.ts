import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseProgress, parseStats } from '../../../src/activities/rsync-output.ts';
import { unpackStreamCommand } from '../../../src/activities/transfer-first-copy.ts';
import { passScript, watchScript } from '../../../src/activities/transfer-pass-script.ts';

/*
 * The script of a pass in a real sh with the real find and perl. In the place of rsync and systemd stand programs that note what they are
 * asked for: what rsync makes of it is seen on real machines (test/hosts).
 */

let folder: string;
const state = (): string => join(folder, 'state');
const source = (): string => join(folder, 'source');

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ferry-pass-'));
  for (const name of ['state', 'source', 'programs']) mkdirSync(join(folder, name));
  program('rsync', 'echo "$*" >>"$STATE/asked"');
  program('systemctl', ':');
  writeFileSync(join(folder, 'pass'), passScript);
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function program(name: string, text: string): void {
  writeFileSync(join(folder, 'programs', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

function fill(files: Record<string, number>): void {
  for (const [name, size] of Object.entries(files)) {
    mkdirSync(join(source(), name, '..'), { recursive: true });
    writeFileSync(join(source(), name), Buffer.alloc(size));
  }
}

interface Settings {
  streams: number;
  known: string;
  fill: string;
  mode: 'live' | 'final';
}

/** Runs a pass; `since` in seconds, or a word. Answers its exit code, the codes of its steps and what rsync was asked for. */
function run(
  since: string,
  { streams = 1, known = 'first', fill = 'fill', mode = 'live' }: Partial<Settings> = {},
): { code: number | null; codes: string[]; asked: string[] } {
  const argv = [
    join(folder, 'pass'),
    state(),
    source(),
    'ferry:data/',
    since,
    '-',
    'tree',
    `${streams}`,
    'abc',
    fill,
    join(folder, 'lists', known),
    mode,
  ];
  const { status } = spawnSync('sh', [...argv, '--modify-window=-1'], {
    env: { PATH: `${join(folder, 'programs')}:${process.env['PATH'] ?? ''}`, STATE: state() },
  });
  return { code: status, codes: lines('codes'), asked: lines('asked').filter((line) => line !== '--help') };
}

function lines(name: string): string[] {
  const file = join(state(), name);
  return existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : [];
}

const doubtful = (): string[] => {
  const file = join(state(), 'list.doubtful');
  return existsSync(file) ? readFileSync(file, 'utf8').split('\0').slice(0, -1).toSorted() : [];
};
const longAgo = '1000000000';

/** A first pass, which leaves its list of directories to the next. */
function begin(): void {
  run('none');
  rmSync(join(state(), 'asked'));
}

/** A moment that all files are older than. */
async function aMomentLater(): Promise<string> {
  await sleep(20);
  const since = `${Date.now() / 1000}`;
  await sleep(20);
  return since;
}

/** Name of the list that the last pass made. */
function lastList(): string {
  return readFileSync(join(state(), 'moment'), 'utf8').split(' ')[0] ?? '';
}

function move(from: string, to: string): void {
  renameSync(join(source(), from), join(source(), to));
}

describe('the listing of rsync', () => {
  const many = 2_000_000;
  it.each([
    ['live', 'none', 2, false, true],
    ['live', 'all', 2, false, true],
    ['live', longAgo, 2, false, true],
    ['final', longAgo, 2, true, false],
    ['live', 'all', many, false, false],
    ['live', longAgo, many, false, false],
    ['live', 'all', many, true, true],
    ['live', longAgo, many, true, true],
  ] as const)(
    'in a %s pass since %s of %d files, some with several names: %j, is whole before it copies: %j',
    (mode, since, files, several, whole) => {
      fill({ 'a/f': 1, g: 1 });
      if (several) linkSync(join(source(), 'a/f'), join(source(), 'h'));
      if (since !== 'none') begin();
      if (files === many) program('wc', `echo ${many}`);
      const { code, asked } = run(since, { mode });

      expect(code).toBe(0);
      expect(asked.at(-1)).toContain('--delete-delay');
      expect(asked.at(-1)?.includes('--no-inc-recursive')).toBe(whole);
    },
  );
});

describe('what changed since the last pass', () => {
  it('is named so that rsync takes no name for a comment or an option', () => {
    const names = ['#innodb_redo/#ib_redo1', ';semicolon', '-rf', ' space', 'plain', 'a/\nline'];
    fill(Object.fromEntries(names.map((name) => [name, 1])));
    begin();
    const { code } = run(longAgo);

    expect(code).toBe(0);
    expect(doubtful()).toEqual(names.map((name) => `./${name}`).toSorted());
  });

  it('takes in the files of a directory that took the place of another, whatever else changed in it', async () => {
    fill({ 'data/f': 1, 'data/deep/f': 1, 'data.new/f': 1, 'data.new/deep/f': 1, 'busy/old': 1, 'still/f': 1, top: 1 });
    begin();
    const since = await aMomentLater();
    move('data', 'data.old');
    move('data.new', 'data');
    fill({ 'data/pid': 1, 'busy/new': 1 });
    run(since);

    expect(doubtful()).toEqual(
      ['data.old/deep/f', 'data.old/f', 'data/deep/f', 'data/f', 'data/pid', 'busy/new']
        .map((f) => `./${f}`)
        .toSorted(),
    );
    expect(lines('sizes.doubtful')).toHaveLength(6);
  });

  it('takes in the whole tree when it took the place of another', async () => {
    fill({ f: 1, 'deep/f': 1 });
    cpSync(source(), join(folder, 'restored'), { recursive: true });
    begin();
    const since = await aMomentLater();
    renameSync(source(), join(folder, 'before'));
    renameSync(join(folder, 'restored'), source());
    run(since);

    expect(doubtful()).toEqual(['./deep/f', './f']);
  });

  it('keeps in mind what a try met that was not concluded', async () => {
    fill({ 'data/f': 1, 'other/f': 1, 'odd\n name/f': 1 });
    begin();
    const since = await aMomentLater();
    move('data', 'away');
    move('other', 'data');
    move('odd\n name', 'other');
    run(since);
    const first = doubtful();
    move('data', 'spare');
    move('away', 'data');
    run(since);
    const second = doubtful();
    const known = lastList();
    run(await aMomentLater(), { known });

    expect(first).toEqual(['./away/f', './data/f', './other/f']);
    expect(second).toEqual(['./data/f', './other/f', './spare/f']);
    expect(doubtful()).toEqual([]);
    expect(readdirSync(join(folder, 'lists')).toSorted()).toEqual([known, `${known}.moved`, lastList()].toSorted());
  });

  it('is every content where nobody knows which directories the last pass met', () => {
    fill({ f: 1 });
    const { code, asked } = run(longAgo);
    const next = run(longAgo, { known: lastList() });

    expect(code).toBe(0);
    expect(asked).toEqual([expect.stringContaining(' --checksum --delete-delay ')]);
    expect(next.asked.at(-1)).not.toContain('--checksum');
  });

  it.each([
    ['killed', 'kill -KILL $$', 'list 137', false],
    ['refused by a directory', 'echo "find: \'./a\': Permission denied" >&2; exit 1', 'list 23', false],
    ['without a word', 'exit 1', 'list 23', false],
    [
      'overtaken by a file that went away',
      'echo "find: \'./a\': No such file or directory" >&2; exit 1',
      'list 24',
      true,
    ],
  ])('is not taken for nothing when the look is %s', (_name, text, code, goesOn) => {
    begin();
    program('find', text);
    const result = run(longAgo);

    expect(result.codes[0]).toBe(code);
    expect(result.asked.length > 0).toBe(goesOn);
    expect(result.code === 0).toBe(goesOn);
  });
});

describe('several streams', () => {
  const large = { a: 40 << 20, b: 40 << 20, c: 1 };

  it('are asked for with the token, and one rsync comes after them', () => {
    fill(large);
    const { code, codes, asked } = run('none', { streams: 2 });

    expect(code).toBe(0);
    expect(asked.filter((line) => line.includes('--rsync-path=ferry-stream abc rsync'))).toHaveLength(2);
    expect(asked.at(-1)).toContain('--delete-delay');
    expect(codes.toSorted()).toEqual(['fill.1 0', 'fill.2 0', 'rest 0']);
  });

  it.each([
    ['doubtful', longAgo, 12, ['doubtful.1 12', 'list 0'], 1],
    ['doubtful', longAgo, 23, ['doubtful.1 23', 'doubtful.2 0', 'fill.2 0', 'list 0', 'rest 0'], 0],
    ['fill', 'none', 12, ['fill.2 0', 'rest 0'], 0],
    ['fill', 'none', 24, ['fill.1 24', 'fill.2 0', 'rest 0'], 0],
  ])('of %s since %s, one ends with %i', (_stage, since, with_, expected, ends) => {
    fill(large);
    begin();
    program('rsync', `echo "$*" >>"$STATE/asked"; case "$*" in *list.*.1\\ *) exit ${with_} ;; esac`);
    const { code, codes } = run(since, { streams: 2 });

    expect(codes.toSorted().filter((line) => !/^doubtful.2 0$/.test(line) || with_ === 23)).toEqual(expected);
    expect(code).toBe(ends);
  });

  it('count as failed when one is gone without a word', () => {
    fill(large);
    begin();
    program('rsync', `case "$*" in *list.doubtful.1\\ *) kill -KILL $PPID ;; esac`);
    const { code, codes } = run(longAgo, { streams: 2 });

    expect(code).not.toBe(0);
    expect(codes).not.toContain('rest 0');
  });
});

describe('a first copy by tar', () => {
  const large = { a: 40 << 20, 'd/b': 40 << 20, 'd/e/c': 1, 'd/#x\n\\101 y': 3, '-C': 2 };
  const there = (): string => join(folder, 'there');

  /** In the place of ssh and the gate: what the gate runs, in a directory. */
  function gate(before = ''): void {
    mkdirSync(there());
    program('ssh', `echo "$*" >>"$STATE/sshs"; ${before}\ncd '${there()}' && ${unpackStreamCommand}`);
  }

  /** In the place of tar: tar itself, and something before or after it. */
  function packer(text: string, version = 'exec tar --version'): void {
    program(
      'tar',
      `PATH='${process.env['PATH'] ?? ''}'\ncase "$*" in *--extract*) exec tar "$@" ;; --version) ${version}; exit ;; esac\n${text}`,
    );
  }

  const names = (tree: string): string[] => readdirSync(tree, { recursive: true, encoding: 'utf8' }).toSorted();
  const said = (): string[] => readdirSync(join(folder, 'lists')).filter((name) => name.startsWith('said.'));

  it.each([1, 2])(
    'of %i streams carries everything but symlinks, and rsync is not asked when it is alone',
    (streams) => {
      fill(large);
      symlinkSync('a', join(source(), 'd', 'link'));
      utimesSync(join(source(), 'd'), 1e9, 1e9 + 0.5);
      gate();
      const { code, codes, asked } = run('none', { streams, fill: 'alone' });
      const figures = parseStats(readFileSync(join(state(), 'out.fill'), 'utf8'));
      const told = parseProgress(readFileSync(join(state(), 'out.fill'), 'utf8'));

      expect(code).toBe(0);
      expect(codes).toEqual(['alone 0']);
      expect(asked).toEqual([]);
      expect(names(there())).toEqual(names(source()).filter((name) => name !== 'd/link'));
      for (const name of ['a', 'd', 'd/b', 'd/#x\n\\101 y', '-C']) {
        expect(statSync(join(there(), name)).mtimeMs).toBe(statSync(join(source(), name)).mtimeMs);
      }
      expect(readFileSync(join(there(), 'd/b')).equals(readFileSync(join(source(), 'd/b')))).toBe(true);
      expect(figures).toMatchObject({
        files: 9,
        filesTransferred: 5,
        totalBytes: (80 << 20) + 6,
        literalBytes: (80 << 20) + 6,
      });
      expect(told).toMatchObject({ bytes: (80 << 20) + 6, files: 5 });
      expect(lines('streams')).toContain(`alone ${streams}`);
      expect(lines('sshs').filter((line) => line.endsWith('ferry ferry-stream abc ferry-fill'))).toHaveLength(
        streams === 1 ? 1 : 3,
      );
    },
  );

  it('is looked over by one rsync where no other pass follows', () => {
    fill(large);
    gate();
    const { code, codes, asked } = run('none', { fill: 'tar' });

    expect(code).toBe(0);
    expect(codes).toEqual(['rest 0']);
    expect(asked).toEqual([expect.stringMatching(/^(?!.*--checksum).*--delete-delay/)]);
  });

  it('says how far it is, in bytes of the files and not of the archive, and never more than there are', () => {
    fill(Object.fromEntries(Array.from({ length: 18_000 }, (_, n) => [`d${n % 40}/${n}`, 3])));
    gate('cat >/dev/null; exit 255; :');
    run('none', { fill: 'tar' });
    const told = lines('out.fill.1').map((line) => parseProgress(line)?.bytes ?? Number.NaN);

    expect(told).not.toEqual([]);
    expect(told).toEqual(told.toSorted((a, b) => a - b));
    expect(told.at(-1)).toBeGreaterThan(54_000 * 0.3);
    expect(told.at(-1)).toBeLessThanOrEqual(54_000);
  });

  it('ends as soon as the destination is full, and not when everything was read', () => {
    fill({ a: 400 << 20 });
    gate(
      'echo "tar: ./a: Cannot write: No space left on device" >&2; head -c 70000000 >/dev/null; sleep 0.3; cat >/dev/null; exit 2',
    );
    const { asked } = run('none', { fill: 'alone' });

    expect(lines('packed.fill.1')).toEqual(['143']);
    expect(asked).toEqual([expect.not.stringContaining('--checksum')]);
  });

  it('is not worth it for little', () => {
    fill({ a: 1000, b: 1000 });
    gate();
    const { codes } = run('none', { fill: 'alone' });

    expect(codes).toEqual(['rest 0']);
    expect(lines('sshs')).toEqual([]);
  });

  it('is of no blame for a source in use', () => {
    fill(large);
    gate();
    packer(`tar "$@"; echo "tar: ./a: file changed as we read it" >&2; exit 1`);
    const alone = run('none', { fill: 'alone' });

    expect(alone.code).toBe(0);
    expect(alone.codes).toEqual(['alone 24']);
  });

  it('that met an error of reading makes every content compared, in this pass or, when that is lost, in the next', () => {
    fill(large);
    gate();
    packer(`tar "$@"; echo "tar: ./a: Read error at byte 0, while reading 512 bytes: Input/output error" >&2; exit 2`);
    program('rsync', 'echo "$*" >>"$STATE/asked"; exit 12');
    const first = run('none', { fill: 'alone' });
    rmSync(join(state(), 'asked'));
    const kept = said();
    program('rsync', 'echo "$*" >>"$STATE/asked"');
    const second = run(longAgo, { fill: '-' });
    rmSync(join(state(), 'asked'));
    const third = run(longAgo, { fill: '-', known: lastList() });

    expect(first.code).toBe(12);
    expect(first.asked).toEqual([expect.stringContaining('--checksum')]);
    expect(kept).toEqual(['said.fill.1']);
    expect(second.asked).toEqual([expect.stringContaining('--checksum')]);
    expect(said()).toEqual([]);
    expect(third.asked.join()).not.toContain('--checksum');
  });

  it.each([
    ['whose wire broke, with the last words of the other end', 'head -c 1000000 >/dev/null; exit 255', true],
    ['that was killed at the other end', 'head -c 1000000 >/dev/null; kill -KILL $$', true],
    ['that found no room', 'cat >/dev/null; echo "tar: ./a: Cannot write: No space left on device" >&2; exit 2', false],
    ['that met no end', 'head -c 9 >/dev/null; echo "tar: Unexpected EOF in archive" >&2; exit 2', false],
    ['that could not close', 'cat >/dev/null; echo "tar: ./a: Cannot close: Input/output error" >&2; exit 2', true],
  ])('%s goes on as rsync, by content where a file may be wrong', (_name, text, byContent) => {
    fill(large);
    gate(text);
    const { codes, asked } = run('none', { fill: 'alone' });

    expect(codes).toEqual(['rest 0']);
    expect(asked.map((line) => line.includes('--checksum'))).toEqual([byContent]);
    expect(parseStats(readFileSync(join(state(), 'out.fill'), 'utf8'))).toMatchObject({ filesTransferred: 0 });
    expect(said()).toEqual([]);
  });

  it('that ends without a word, and one that is broken off, make every content compared', () => {
    fill(large);
    gate();
    packer('tar "$@"; exit 2');
    const silent = run('none', { fill: 'alone' });
    // The job's first process, and with it everybody who could say how it ended.
    packer('kill -KILL $(cat "$STATE/shell")');
    writeFileSync(join(folder, 'pass'), `echo $$ >"$STATE/shell"\n${passScript}`);
    const broken = run('none', { fill: 'alone' });
    rmSync(join(state(), 'asked'));
    const next = run(longAgo, { fill: '-' });

    expect(silent.asked).toEqual([expect.stringContaining('--checksum')]);
    expect(broken.code).not.toBe(0);
    expect(broken.codes).toEqual([]);
    expect(next.asked).toEqual([expect.stringContaining('--checksum')]);
  });

  it('leaves files without a block to rsync, and those with holes where tar may read them for ever', () => {
    fill({ a: 20 << 20, 'd/holed': 1 << 20 });
    truncateSync(join(source(), 'd/holed'), 30 << 20);
    writeFileSync(join(source(), 'd/nothing'), '');
    truncateSync(join(source(), 'd/nothing'), 5 << 20);
    utimesSync(join(source(), 'd'), 1e9, 1e9 + 0.5);
    gate();
    const now = run('none', { fill: 'alone' });
    const carried = names(there());
    const { blocks, size } = statSync(join(there(), 'd/holed'));
    const { mtimeMs } = statSync(join(there(), 'd'));
    rmSync(there(), { recursive: true });
    gate();
    packer('exec tar "$@"', 'echo "tar (GNU tar) 1.30"');
    run('none', { fill: 'alone' });

    expect(now.codes).toEqual(['alone 0']);
    expect(carried).toEqual(['a', 'd', 'd/holed']);
    expect({ size, isHoled: blocks * 512 < size }).toEqual({ size: 30 << 20, isHoled: true });
    expect(mtimeMs).toBe(1e12 + 500);
    expect(names(there())).toEqual(['a', 'd']);
  });

  it('is left to rsync, with its words for it, where the source is gone', () => {
    gate();
    rmSync(source(), { recursive: true });
    const { asked } = run('none', { fill: 'alone' });

    expect(asked).toEqual([expect.stringContaining('--delete-delay')]);
  });

  it('knocks again where sshd turned it away', () => {
    fill(large);
    gate(
      '[ -e "$STATE/knocked" ] || { : >"$STATE/knocked"; echo "kex_exchange_identification: closed" >&2; exit 255; }',
    );
    const { codes } = run('none', { fill: 'alone' });

    expect(codes).toEqual(['alone 0']);
    expect(names(there())).toEqual(names(source()));
  });
});

describe('who watches', () => {
  it('is told nothing by the name of a file', () => {
    const evil = 'x\\nActiveState=inactive\\nexit=0';
    fill({ [evil]: 1 });
    const group = '/ferry-test';
    const script = watchScript
      .replaceAll('/sys/fs/cgroup', join(folder, 'cgroup'))
      .replace('readlink "/proc/$pid"/fd/*', `printf '%s\\n' "$source/$(ls "$source")"`);
    mkdirSync(join(folder, 'cgroup', group), { recursive: true });
    writeFileSync(join(folder, 'cgroup', group, 'cgroup.procs'), '1\n');
    program('systemctl', `echo ActiveState=active; echo ControlGroup=${group}`);
    const { stdout } = spawnSync('sh', ['-c', script, 'sh', 'unit', folder, state(), source(), '0'], {
      encoding: 'utf8',
      env: { PATH: `${join(folder, 'programs')}:${process.env['PATH'] ?? ''}` },
    });

    expect(stdout).toContain(`file=${source()}/${evil}\n`);
    expect(stdout.match(/^ActiveState=.*$/gm)).toEqual(['ActiveState=active']);
    expect(stdout).not.toMatch(/^exit=/m);
  });
});
