import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { completionScript } from '../../../src/client/commands/completion.ts';
import { createProgram } from '../../../src/client/main.ts';
import { gateNames } from '../../../src/plan/plan.ts';

const directory = mkdtempSync(join(tmpdir(), 'ferry-completion-'));
const empty = mkdtempSync(join(directory, 'empty-'));
const program = createProgram();
const file = (shell: string): string => join(directory, `ferry.${shell}`);

beforeAll(() => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) writeFileSync(file(shell), completionScript(program, shell));
  // Stands for the program where the script asks it which migrations run.
  writeFileSync(join(directory, 'ferry'), '#!/bin/sh\n[ "$3" = --migrations ] && printf "migrate-a\\nmigrate-b\\n"\n');
  chmodSync(join(directory, 'ferry'), 0o755);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** What bash offers for the last word. */
function offered(...words: string[]): string[] {
  const script = `
source "$1"; shift
COMP_WORDS=(ferry "$@"); COMP_CWORD=$#
_ferry
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const env = { ...process.env, PATH: `${directory}:${process.env['PATH'] ?? ''}` };
  const output = execFileSync('bash', ['-uc', script, 'bash', file('bash'), ...words], { encoding: 'utf8', env });
  return output.split('\n').filter((word) => word !== '');
}

describe('completion in bash', () => {
  it('offers commands, and those that begin so', () => {
    expect(offered('')).toEqual([...program.commands.map((command) => command.name()), 'help']);
    expect(offered('re')).toEqual(['reject', 'resume', 'report']);
    expect(offered('--na')).toEqual(['--namespace']);
    expect(offered('report', '--ru')).toEqual(['--run-id']);
    expect(offered('help', 'st')).toEqual(['start', 'status']);
  });

  it.each([
    [
      ['status', '--output', ''],
      ['table', 'json', 'yaml'],
    ],
    [['status', '-o', 'j'], ['json']],
    [['report', '-o', 'h'], ['html']],
    [['worker', '--log-level', 'w'], ['warn']],
    // What stands behind these is a file: the shell's own completion takes over.
    [['approve', 'open-downtime', '--plan', ''], []],
    [['worker', '--kubeconfig', ''], []],
  ])('%j', (words, values) => {
    expect(offered(...words)).toEqual(values);
  });

  it('offers gates, then migrations that run, and options everywhere behind a dash', () => {
    expect(offered('approve', '')).toEqual([...gateNames]);
    expect(offered('approve', '--pl')).toEqual(['--plan']);
    // A file stands here, and the shell knows them.
    expect(offered('check', '')).toEqual([]);
    expect(offered('approve', 'open-downtime', 'm')).toEqual(['migrate-a', 'migrate-b']);
    expect(offered('status', 'migrate-a')).toEqual(['migrate-a']);
    expect(offered('abort', '--acc')).toEqual(['--accept-losing-writes']);
    expect(offered('abort', 'migrate-a', '--reason', 'x', '--y')).toEqual(['--yes']);
    expect(offered('completion', '')).toEqual(['bash', 'zsh', 'fish']);
    expect(offered('completion', 'bash', '--m')).toEqual([]);
  });

  it.each([
    [['--quiet', 'stat'], ['status']],
    [['--quiet', '--na'], ['--namespace']],
    [['--address', '127.0.0.1', ':', '7233', 'approve', 'open'], ['open-downtime']],
    [['--address', 'x', 'status', 'migrate-b'], ['migrate-b']],
    [['--address', 'approve', 'rej'], ['reject']],
    [['approve', '--by', 'li', 'remove'], ['remove-nodes']],
    [['approve', '--by', '=', 'li', 'remove'], ['remove-nodes']],
    [
      ['approve', '-y', 'open-downtime', '--by', 'li', ''],
      ['migrate-a', 'migrate-b'],
    ],
    [['approve', 'open-downtime', '--by', ''], []],
    [['--profile', ''], []],
    [['-q', 'status', '--output', '=', 'j'], ['json']],
    [['--address', 'x', ':', ''], []],
  ])('finds the command and its arguments behind options: %j', (words, found) => {
    expect(offered(...words)).toEqual(found);
  });
});

/** What zsh offers for the last word, with the functions of its completion replaced by ones that print. */
function offeredByZsh(...words: string[]): string[] {
  const script = `
compdef() { : }; _files() { : }
compadd() { shift; print -l -- "$@" }
_describe() { print -l -- \${\${(P)2}%%:*} }
source "$1"; shift
words=(ferry "$@"); CURRENT=$#words; PREFIX=$words[-1]
_ferry`;
  const env = { ...process.env, PATH: `${directory}:${process.env['PATH'] ?? ''}` };
  const output = execFileSync('zsh', ['-fc', script, 'zsh', file('zsh'), ...words], { encoding: 'utf8', env });
  return output.split('\n').filter((word) => word !== '');
}

/** What fish offers for the last word, in a directory without files. */
function offeredByFish(...words: string[]): string[] {
  const env = { ...process.env, PATH: `${directory}:${process.env['PATH'] ?? ''}`, HOME: directory };
  const script = 'source $argv[1]; cd $argv[2]; complete -C $argv[3]';
  const line = ['ferry', ...words].join(' ');
  const output = execFileSync('fish', ['--no-config', '-c', script, file('fish'), empty, line], {
    encoding: 'utf8',
    env,
  });
  return output
    .split('\n')
    .map((offer) => offer.split('\t')[0] ?? '')
    .filter((word) => word !== '');
}

/** Whether a shell is on this machine; every machine of a developer has bash, few have all three. */
function isThere(shell: string): boolean {
  return spawnSync(shell, ['-c', 'true']).status === 0;
}

describe('completion scripts', () => {
  it.each(['bash', 'zsh', 'fish'].filter(isThere))('%s can read its own', (shell) => {
    const { status, stderr } = spawnSync(shell, ['-n', file(shell)], { encoding: 'utf8' });

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  it('knows values and descriptions in fish and zsh', () => {
    const fish = completionScript(program, 'fish');
    const zsh = completionScript(program, 'zsh');

    expect(fish).toContain("'__ferry_at status' -l output -s o -x -a 'table json yaml'");
    expect(fish).toContain(`-a '${gateNames.join(' ')}'`);
    expect(zsh).toContain("'status --output'|'status -o') compadd -- table json yaml; return ;;");
    expect(zsh).toContain(`'approve 1') compadd -- ${gateNames.join(' ')}; return ;;`);
  });

  it.skipIf(!isThere('zsh')).each([
    [[''], [...program.commands.map((command) => command.name()), 'help']],
    [
      ['--quiet', ''],
      [...program.commands.map((command) => command.name()), 'help'],
    ],
    [['--address', '127.0.0.1:7233', 'approve', ''], [...gateNames]],
    [['approve', '--by', 'li', ''], [...gateNames]],
    [
      ['approve', '-y', 'open-downtime', ''],
      ['migrate-a', 'migrate-b'],
    ],
    [
      ['-q', 'status', '--output', ''],
      ['table', 'json', 'yaml'],
    ],
    [['approve', '--by', ''], []],
  ])('zsh finds the command and its arguments behind options: %j', (words, found) => {
    expect(offeredByZsh(...words)).toEqual(found);
  });

  it.skipIf(!isThere('fish')).each<[string[], string[]]>([
    [[''], [...program.commands.map((command) => command.name()), 'help']],
    [
      ['--quiet', ''],
      [...program.commands.map((command) => command.name()), 'help'],
    ],
    [
      ['--namespace', 'x', ''],
      [...program.commands.map((command) => command.name()), 'help'],
    ],
    // The value of an option may be called as a command is.
    [['--address', 'approve', 'rej'], ['reject']],
    [['--address', '127.0.0.1:7233', 'approve', ''], [...gateNames]],
    [
      ['--namespace', 'x', 'watch', 'mig'],
      ['migrate-a', 'migrate-b'],
    ],
    [
      ['--namespace=x', 'watch', 'mig'],
      ['migrate-a', 'migrate-b'],
    ],
    [['approve', '--by', 'li', ''], [...gateNames]],
    [
      ['approve', '-y', 'open-downtime', ''],
      ['migrate-a', 'migrate-b'],
    ],
    [
      ['-q', 'status', '--output', ''],
      ['table', 'json', 'yaml'],
    ],
    [['--namespace', 'x', 'status', '-o', 'j'], ['json']],
    [['--quiet', '--na'], ['--namespace']],
    [['--profile', 'x', 'report', '--ru'], ['--run-id']],
    [
      ['help', 'st'],
      ['start', 'status'],
    ],
    // A file stands here, or free text; there is no file.
    [['approve', 'open-downtime', '--by', ''], []],
    [['--profile', ''], []],
    [['check', ''], []],
  ])('fish finds the command and its arguments behind options: %j', (words, found) => {
    expect(offeredByFish(...words).toSorted()).toEqual(found.toSorted());
  });
});
