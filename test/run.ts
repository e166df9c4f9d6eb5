/**
 * `npm test`: everything but the longest tests of masters, which run by name. Pure core and workflows first (they need no machine), then
 * each stage inside a lab of its own that ends with this process, however it ends. Prints one true count at the end and exits non-zero
 * if anything failed or did not run.
 *
 * node test/run.ts [STAGE…]   only these stages
 */
import { spawn } from 'node:child_process';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

interface Stage {
  name: string;
  /** vitest projects, or one project with test files. */
  args: string[];
  /** Arguments of `lab up`; absent: runs without a lab. */
  lab?: string[];
  env?: Record<string, string>;
}

const stages: Stage[] = [
  // Two at once also where there are two cores: the longest files wait for members of etcd most of the time.
  { name: 'unit', args: ['--project', 'unit', '--maxWorkers=2'] },
  { name: 'replay', args: ['--project', 'replay'] },
  { name: 'workflow', args: ['--project', 'workflow'] },
  { name: 'browser', args: ['--project', 'browser'] },
  // Files side by side: each test that breaks a machine has one of its own, and most of the time they wait.
  { name: 'hosts', args: ['--project', 'hosts', '--fileParallelism', '--maxWorkers=3'], lab: ['--light'] },
  { name: 'cluster', args: ['--project', 'cluster'], lab: [], env: { LAB_PROFILE: 'small' } },
  { name: 'e2e-migration', args: ['--project', 'e2e', '2-migration'], lab: [], env: { LAB_PROFILE: 'full' } },
];

/** Only when named: together with the others they would take more than an hour. */
const byName: Stage[] = [
  // A lab each: none leaves new machines that are new.
  {
    name: 'e2e-rollback',
    args: ['--project', 'e2e', '1-rollback'],
    lab: ['--control-plane', 'stacked'],
    env: { LAB_PROFILE: 'small' },
  },
  {
    name: 'stacked',
    args: ['--project', 'stacked'],
    lab: ['--control-plane', 'stacked'],
    env: { LAB_PROFILE: 'small' },
  },
  {
    name: 'e2e-masters',
    args: ['--project', 'e2e', '3-masters'],
    lab: ['--control-plane', 'stacked'],
    env: { LAB_PROFILE: 'small' },
  },
  {
    name: 'e2e-second-try',
    args: ['--project', 'e2e', '1-second-try'],
    lab: ['--control-plane', 'stacked'],
    env: { LAB_PROFILE: 'small' },
  },
];

interface Count {
  passed: number;
  failed: number;
  skipped: number;
  /** What failed, at last or at its first try, one line each: said once more at the end, where a reader of a long log looks first. */
  failures: string[];
}

const root = join(import.meta.dirname, '..');
const results = join(root, 'test-results');

function run(argv: string[], env: Record<string, string> = {}): Promise<number> {
  const [file = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...env },
    });
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

interface VitestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numFailedTestSuites: number;
  success: boolean;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string; failureMessages: string[] }[];
  }[];
}

/** The message without its stack, on one line. */
const inOneLine = (text: string): string =>
  (stripVTControlCharacters(text).split('\n    at ')[0] ?? '').replaceAll(/\s+/g, ' ').slice(0, 600);

function failuresOf(report: VitestReport): string[] {
  return report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(root, name);
    const lines = assertionResults.flatMap((test) => {
      const [cause] = test.failureMessages;
      if (cause === undefined) return [];
      const how = test.status === 'failed' ? 'failed' : 'passed at the second try';
      return [`${how}: ${file}: ${test.fullName}: ${inOneLine(cause)}`];
    });
    const isOutside = status === 'failed' && !assertionResults.some((test) => test.status === 'failed');
    return isOutside ? [...lines, `failed: ${file}: ${inOneLine(message)}`] : lines;
  });
}

/** A stage whose report is missing, or that failed without a failed test, counts as one failure: nothing passes by silence. */
async function count(reportFile: string, exitCode: number): Promise<Count> {
  let report: VitestReport | undefined;
  try {
    report = JSON.parse(await readFile(reportFile, 'utf8')) as VitestReport;
  } catch {
    return { passed: 0, failed: 1, skipped: 0, failures: [`failed: no report at ${relative(root, reportFile)}`] };
  }
  const failed = report.numFailedTests > 0 ? report.numFailedTests : report.success && exitCode === 0 ? 0 : 1;
  const failures = failuresOf(report);
  if (failed > 0 && !failures.some((line) => line.startsWith('failed')))
    failures.push(`failed: no test, but vitest ended with ${exitCode}`);
  return { passed: report.numPassedTests, failed, skipped: report.numPendingTests, failures };
}

async function runStage(stage: Stage): Promise<Count> {
  const node = process.execPath;
  const lab = [node, join(root, 'lab', 'cli.ts')];
  const report = join(results, `${stage.name}.json`);
  const env = { ...stage.env, LAB_NAME: `test-${stage.name}-${process.pid}` };
  const vitest = [node, join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run', ...stage.args];
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  if (stage.lab === undefined) return count(report, await run([...vitest, ...reporters], env));
  try {
    const up = await run([...lab, 'up', ...stage.lab, '--while', String(process.pid)], env);
    if (up !== 0) {
      console.error(`stage ${stage.name}: the lab did not come up (exit ${up}); its tests did not run`);
      return { passed: 0, failed: 1, skipped: 0, failures: [`failed: the lab did not come up (exit ${up})`] };
    }
    return await count(report, await run([...lab, 'run', ...vitest, ...reporters], env));
  } finally {
    await run([...lab, 'down'], env);
  }
}

async function main(): Promise<void> {
  const only = process.argv.slice(2);
  const all = [...stages, ...byName];
  const unknown = only.filter((name) => !all.some((stage) => stage.name === name));
  if (unknown.length > 0)
    throw new Error(`no such stage: ${unknown.join(', ')}; there are ${all.map((s) => s.name).join(', ')}`);
  await rm(results, { recursive: true, force: true });
  await mkdir(results, { recursive: true });
  const total: Count = { passed: 0, failed: 0, skipped: 0, failures: [] };
  const lines: string[] = [];
  for (const stage of only.length === 0 ? stages : all.filter(({ name }) => only.includes(name))) {
    const started = Date.now();
    const { passed, failed, skipped, failures } = await runStage(stage);
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    total.failures.push(...failures.map((line) => `${stage.name}: ${line}`));
    lines.push(
      `${stage.name}: ${passed} passed, ${failed} failed, ${skipped} skipped in ${Math.round((Date.now() - started) / 1000)} s`,
    );
  }
  console.log([...lines, ...total.failures].map((line) => `  ${line}`).join('\n'));
  console.log(`tests: ${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
}

await main();
