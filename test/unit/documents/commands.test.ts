import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { CommanderError } from 'commander';
import { beforeAll, describe, expect, it } from 'vitest';
import { environmentTargets } from '../../../src/activities/notify.ts';
import { createProgram } from '../../../src/client/main.ts';
import { readKeyRing } from '../../../src/codec/key-ring.ts';
import type { CommandLine } from '../../documents/command-lines.ts';
import {
  commandLines,
  commentedFiles,
  commentedLines,
  documents,
  simpleCommands,
} from '../../documents/command-lines.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const run = promisify(execFile);
/** Command lines as people copy them: indented or fenced lines and code spans that begin with `ferry`. */
function commandsOf(markdown: string): string[] {
  const lines = markdown.split('\n').flatMap((line) => {
    const shell = /^\s*(?:\$ )?(?:npm run -s lab -- run )?(?<command>ferry(?: .*)?)$/.exec(line);
    const spans = [...line.matchAll(/`(?<command>ferry(?: [^`]*)?)`/g)];
    return [...(shell === null ? [] : [shell]), ...spans].map((match) => match.groups?.['command'] ?? '');
  });
  return lines.filter((line) => /^ferry( |$)/.test(line));
}

/** Words of one command as a shell sees them: up to a comment, a pipe, a redirection or the next command. */
function wordsOf(command: string): string[] {
  const words: string[] = [];
  for (const [word] of command.matchAll(/(?:[^\s"']|"[^"]*"|'[^']*')+/g)) {
    if (/^(?:#|[|>;]|&&)/.test(word)) break;
    words.push(word.replaceAll(/["']/g, ''));
  }
  return words.slice(1);
}

/** Has a command line parsed by the real program, with every action replaced: answers what would run, or what is wrong. */
async function parse(words: readonly string[]): Promise<string> {
  const program = createProgram();
  const quiet = { writeOut: () => undefined, writeErr: () => undefined };
  let ran = '';
  const prepare = (command: Command): void => {
    command.exitOverride().configureOutput(quiet);
    if (command.commands.length === 0) command.action(() => void (ran = command.name()));
    command.commands.forEach(prepare);
  };
  prepare(program);
  try {
    await program.parseAsync([...words], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? error.code : error.message;
  }
  return ran;
}

/** A command that is only named, like `ferry start`, needs no arguments; neither does one that is cut short. */
function isOnlyNamed(words: readonly string[]): boolean {
  return words.length <= 1 || words.includes('…');
}

const cases = documents.flatMap((document) =>
  [...new Set(commandsOf(readFileSync(join(root, document), 'utf8')))].map((command) => [document, command] as const),
);

describe('commands in the documents', () => {
  it('are found in every document that an operator reads', () => {
    for (const document of ['README.md', 'README.zh-CN.md', 'docs/operate.md', 'docs/reference.md'])
      expect(cases.filter(([name]) => name === document).length).toBeGreaterThan(4);
  });

  it.each(cases)('%s: %s', async (_document, command) => {
    const words = wordsOf(command);
    const answer = await parse(words);
    const names = createProgram().commands.map((child) => child.name());

    if (isOnlyNamed(words)) {
      expect(answer).not.toMatch(/unknown (command|option)/);
      const [first] = words;
      if (first !== undefined && !first.startsWith('-')) expect(names).toContain(first);
      return;
    }
    expect([...names, 'commander.helpDisplayed', 'commander.version']).toContain(answer);
  });

  it.each([
    ['ferry migrate plan.yaml', /unknown command/],
    ['ferry approve open-downtime --because x', /unknown option/],
    ['ferry approve open-sesame --reason "x"', /Allowed choices/],
    ['ferry tune --limit fast', /whole number/],
    ['ferry copy onlyone', /missing required argument/],
  ])('would not pass: %s', async (command, why) => {
    expect(await parse(wordsOf(command))).toMatch(why);
  });
});

/** Programs of every shell and every machine; what follows them is judged by the shell alone. */
const common = new Set(['export', 'jq', 'less', 'mkdir', 'printf', 'source', 'tee', 'umask']);
const { name, version, scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  name: string;
  version: string;
  scripts: Record<string, string>;
};
const packedFile = `${name}-${version}.tgz`;

/** What is wrong with a line of a block; undefined when a test of its own judges it, or nothing is wrong. */
function problemOf({ line, notRun }: Pick<CommandLine, 'line' | 'notRun'>, labHelp: string): string | undefined {
  if (notRun !== undefined) return undefined;
  for (const [program = '', ...words] of simpleCommands(line)) {
    // The first by the tests above, the second by those of the workflow, with the real program.
    if (program === 'ferry' || program === 'temporal' || common.has(program)) continue;
    const problem = judges[program]?.(words, labHelp);
    if (judges[program] === undefined)
      return `no test looks at ${program}; judge it, or say why not: <!-- not run: … -->`;
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** By program: what is wrong with what follows it. */
const judges: Record<string, (words: readonly string[], labHelp: string) => string | undefined> = {
  npm: ([verb = '', ...rest], labHelp) => {
    // The test of the package does both.
    if (verb === 'install') return rest.join(' ') === `--global ./${packedFile}` ? undefined : `it packs ${packedFile}`;
    if (verb === 'ci' || verb === 'test' || verb === 'pack') return rest.length === 0 ? undefined : `npm ${verb} alone`;
    const [script = '', dashes, part] = rest.filter((word) => word !== '-s');
    if (verb !== 'run' || scripts[script] === undefined) return `there is no npm ${[verb, ...rest].join(' ')}`;
    if (
      script === 'demo' &&
      part !== undefined &&
      !readText('lab/demo.ts').includes(`${part.slice(2)}: { type: 'boolean'`)
    )
      return `the demo knows no ${part}`;
    if (script === 'lab' && (dashes !== '--' || !labHelp.includes(`npm run -s lab -- ${part ?? ''} `)))
      return `the lab knows no ${part ?? 'nothing'}`;
    return undefined;
  },
  node: ([file = '', ...rest]) => {
    if (!existsSync(join(root, file))) return `there is no ${file}`;
    const unknown = rest.filter((word) => file === 'test/run.ts' && !readText(file).includes(`name: '${word}'`));
    return unknown.length === 0 ? undefined : `there is no stage ${unknown.join(', ')}`;
  },
  npx: ([program, ...rest]) => {
    const [verb, option, project = '', ...files] = rest;
    if (program !== 'vitest' || verb !== 'run' || option !== '--project') return 'only vitest run --project is judged';
    if (!readText('vitest.config.ts').includes(`name: '${project}'`)) return `there is no project ${project}`;
    return files.find((file) => !existsSync(join(root, file)));
  },
};

function readText(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

describe('every line of a block that people copy', () => {
  // Spans in the text as well, where they begin with a program that can be judged here.
  const spans = documents.flatMap((document) =>
    [...readText(document).matchAll(/`((?:npm|node|npx) [^`]+)`/g)].map(([, line = '']) => ({ document, line })),
  );
  const lines = [
    ...documents.flatMap((document) => commandLines(document)),
    ...spans.filter(({ line }) => !line.includes('…')),
  ];
  let labHelp = '';
  beforeAll(async () => {
    const { stdout } = await run(process.execPath, [join(root, 'lab', 'cli.ts'), 'help']);
    labHelp = stdout.replaceAll('\n', ' \n');
  }, 30_000);

  it('is found', () => {
    const programs = new Set(lines.flatMap(({ line }) => simpleCommands(line).map(([program]) => program)));

    expect([...programs]).toEqual(expect.arrayContaining(['ferry', 'temporal', 'npm', 'printf']));
    expect(lines.length).toBeGreaterThan(60);
  });

  it('is one that a shell can read', async () => {
    const script = lines.map(({ line }) => line).join('\n');

    await expect(run('bash', ['-n', '-c', script])).resolves.toMatchObject({ stderr: '' });
  });

  it('is judged by a test, or says why not', () => {
    const problems = lines.flatMap((line) => {
      const problem = problemOf(line, labHelp);
      return problem === undefined ? [] : [`${line.document}: ${line.line}: ${problem}`];
    });

    expect(problems).toEqual([]);
  });

  it.each([
    ['kubectl get nodes', /no test looks at kubectl/],
    ['npm run lap', /there is no npm run lap/],
    ['npm run demo -- --fast', /the demo knows no --fast/],
    ['npm install --global ./proton-ferry-0.0.1.tgz', /it packs proton-ferry-/],
    ['node test/run.ts unit moon', /there is no stage moon/],
    ['npx vitest run --project moon', /there is no project moon/],
    ['npm run -s lab -- upp', /the lab knows no upp/],
    ['ferry status | awk 1', /no test looks at awk/],
  ])('would not pass: %s', (line, why) => {
    expect(problemOf({ line }, labHelp)).toMatch(why);
    expect(problemOf({ line, notRun: 'it needs a cluster' }, labHelp)).toBeUndefined();
  });

  it('that gives the worker an address gives it one that it takes, for the target of the plan', async () => {
    const settings = commandLines('docs/operate.md').flatMap(
      ({ line }) => /^export (FERRY_NOTIFY_\w+)=(\S+)/.exec(line) ?? [],
    );
    const [, variable = '', value = ''] = settings;

    expect(await environmentTargets({ [variable]: value })('pager')).toMatchObject({ kind: 'json' });
    expect(readText('docs/operate.md')).toContain('--notify pager');
  });

  it('that makes the keys of the payloads makes such keys', async () => {
    const home = mkdtempSync(join(tmpdir(), 'ferry-commands-'));
    const block = commandLines('docs/security.md').filter(({ line }) => /^(umask|mkdir|printf) /.test(line));
    await run('bash', ['-e', '-c', block.map(({ line }) => line).join('\n')], { env: { ...process.env, HOME: home } });

    const ring = readKeyRing(join(home, '.config', 'ferry', 'codec-keys.json'));
    rmSync(home, { recursive: true });

    expect(block).toHaveLength(3);
    expect(ring.keys.get(ring.active)).toHaveLength(32);
  });
});

describe('what the comments of deployed files tell people to type', () => {
  const lines = commentedFiles.flatMap((file) => commentedLines(file));

  it('is found in each of them, and is something that a shell can read', async () => {
    expect(new Set(lines.map(({ document }) => document))).toEqual(new Set(commentedFiles));
    await expect(run('bash', ['-n', '-c', lines.map(({ line }) => line).join('\n')])).resolves.toMatchObject({
      stderr: '',
    });
  });

  it('names files that are there, the package as it is packed, and the version of the image', () => {
    const words = lines.flatMap(({ line }) => simpleCommands(line).flat());
    const files = words.filter((word) => /^(?:deploy\/|docker-compose)/.test(word));

    expect(files.length).toBeGreaterThan(2);
    expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
    expect(words.filter((word) => /\.tgz$/.test(word))).toEqual([`./${packedFile}`]);
    expect(words.filter((word) => word.startsWith('ferry/worker:'))).toEqual([`ferry/worker:${version}`]);
  });
});

describe('the README in both languages', () => {
  const [english = '', chinese = ''] = ['README.md', 'README.zh-CN.md'].map(readText);
  const linksOf = (text: string): string[] =>
    [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, link = '']) => link).slice(1);
  const firstCells = (text: string): string[] =>
    [...text.matchAll(/^\| (.*?) +\|/gm)].map(([, cell = '']) => cell.replaceAll(/\*|gate |关口 /g, '')).slice(1);

  it('has the same commands, links, pictures, phases and sections', () => {
    const commandsIn = (document: string): string[][][] =>
      commandLines(document).map(({ line }) => simpleCommands(line));

    expect(commandsIn('README.zh-CN.md')).toEqual(commandsIn('README.md'));
    expect(linksOf(chinese)).toEqual(linksOf(english));
    expect(firstCells(chinese)).toEqual(firstCells(english));
    expect(firstCells(english).length).toBeGreaterThan(6);
    expect(chinese.match(/^#+ /gm)).toEqual(english.match(/^#+ /gm));
  });
});
