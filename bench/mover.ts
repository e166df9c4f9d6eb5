/**
 * `npm run bench:mover -- [--quick] [--case a,b] [--rounds N] [--files N] [--mib N] [--crowds 10,100]`: the mover beside what people type, on the lab's machines,
 * in a lab of its own that ends with this process, however it ends. Prints a table; a run of all cases also writes the measured part of
 * docs/benchmarks.md. It shows times and never judges them.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { format, resolveConfig } from 'prettier';
import type { Measured, Settings } from './measure.ts';
import { render } from './table.ts';

const root = join(import.meta.dirname, '..');
const document = join(root, 'docs', 'benchmarks.md');
const begin = '<!-- measured -->';
const end = '<!-- end -->';
const allCases = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
const MiB = 1024 ** 2;

function readSettings(): { settings: Settings; command: string } {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      case: { type: 'string', default: allCases.join(',') },
      rounds: { type: 'string', default: '3' },
      files: { type: 'string' },
      /** Size of the mixed tree. */
      mib: { type: 'string' },
      /** Numbers of small transfers at once. */
      crowds: { type: 'string' },
    },
  });
  const cases = values.case.split(',');
  const unknown = cases.filter((id) => !allCases.includes(id));
  if (unknown.length > 0) throw new Error(`no such case: ${unknown.join(', ')}; there are ${allCases.join(', ')}`);
  const sizes = values.quick
    ? { databaseBytes: 256 * MiB, largeBytes: 512 * MiB, slowBytes: 48 * MiB, files: 10_000 }
    : { databaseBytes: 2048 * MiB, largeBytes: 1024 * MiB, slowBytes: 128 * MiB, files: 200_000 };
  const count = (name: string, text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} wants a number, not ${text}`);
    return value;
  };
  const settings = {
    ...sizes,
    ...(values.files !== undefined && { files: count('files', values.files) }),
    ...(values.mib !== undefined && { databaseBytes: count('mib', values.mib) * MiB }),
    rounds: count('rounds', values.rounds),
    cases,
    crowds: (values.crowds ?? (values.quick ? '10,100' : '10,100,1000'))
      .split(',')
      .map((text) => count('crowds', text)),
  };
  const given = process.argv.slice(2);
  return { settings, command: ['npm run bench:mover', ...(given.length > 0 ? ['--', ...given] : [])].join(' ') };
}

function run(argv: readonly string[], environment: Record<string, string>): Promise<number> {
  const [file = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...environment },
    });
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

/** Runs the cases in a lab of two machines. What was measured before a failure is kept. */
async function measure(settings: Settings): Promise<{ measured: Measured; isComplete: boolean }> {
  const environment = { LAB_NAME: process.env['LAB_NAME'] ?? 'bench' };
  const lab = [process.execPath, join(root, 'lab', 'cli.ts')];
  const folder = await mkdtemp(join(tmpdir(), 'ferry-bench-'));
  const output = join(folder, 'measured.json');
  try {
    // The crowd's worker is the one that the package has.
    if (settings.cases.includes('g') && (await run(['npm', 'run', '-s', 'build'], {})) !== 0) {
      throw new Error('the package was not built');
    }
    const machines = [
      '--light',
      ...(settings.cases.includes('g') ? [] : ['--no-temporal']),
      '--hosts',
      'old1,new1',
      '--while',
      `${process.pid}`,
    ];
    if ((await run([...lab, 'up', ...machines], environment)) !== 0) throw new Error('the lab did not come up');
    const inside = [process.execPath, join(root, 'bench', 'measure.ts'), output, JSON.stringify(settings)];
    const code = await run([...lab, 'run', ...inside], environment);
    const text = await readFile(output, 'utf8').catch(() => undefined);
    if (text === undefined) throw new Error(`nothing was measured (exit ${code})`);
    return { measured: JSON.parse(text) as Measured, isComplete: code === 0 };
  } finally {
    await run([...lab, 'down'], environment);
    await rm(folder, { recursive: true, force: true });
  }
}

/** The part between the marks is measured; what people wrote around it stays. */
async function writeDocument(measuredPart: string): Promise<void> {
  const text = await readFile(document, 'utf8');
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from === -1 || to < from) throw new Error(`${document} has no place for what was measured`);
  const whole = `${text.slice(0, from)}${begin}\n\n${measuredPart}\n\n${text.slice(to)}`;
  const options = (await resolveConfig(document)) ?? {};
  await writeFile(document, await format(whole, { ...options, parser: 'markdown' }));
}

async function main(): Promise<void> {
  const { settings, command } = readSettings();
  const { measured, isComplete } = await measure(settings);
  const [cpu] = cpus();
  const table = render(
    {
      command,
      date: new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC',
      rounds: settings.rounds,
      cpu: cpu?.model ?? 'unknown',
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 1024 ** 3),
      kernel: release(),
      versions: [...measured.versions, `Node.js ${process.version}`],
    },
    measured.cases,
    measured.crowds,
  );
  console.log(table);
  if (!isComplete) {
    console.error('not all cases came to their end; docs/benchmarks.md stays as it was');
    process.exitCode = 1;
  } else if (allCases.every((id) => settings.cases.includes(id))) {
    await writeDocument(table);
    console.error(`written: ${document}`);
  }
}

await main();
