/**
 * `npm test`: everything. What needs machines mostly waits for them, so two lanes of stages run side by side. Each stage with a lab has
 * one of its own, which ends with this process, however it ends. Every line of output begins with its stage. Prints one true count at
 * the end and exits non-zero if anything failed or did not run.
 *
 * node test/run.ts [STAGE…]   only these stages
 */
import { spawn } from 'node:child_process';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { createInterface } from 'node:readline';

interface Stage {
  name: string;
  /** vitest projects, or one project with test files. */
  args: string[];
  /** Arguments of `lab up`; absent: runs without a lab. */
  lab?: string[];
  env?: Record<string, string>;
}

/** Alone: what measures its own patience suffers from a neighbour that starts machines. */
const first: Stage[] = [
  { name: 'unit', args: ['--project', 'unit'] },
  { name: 'replay', args: ['--project', 'replay'] },
];

const stackedLab = ['--control-plane', 'stacked'];
const full = { LAB_PROFILE: 'full' };
const small = { LAB_PROFILE: 'small' };

/** Then side by side. */
const lanes: Stage[][] = [
  [
    { name: 'workflow', args: ['--project', 'workflow'] },
    { name: 'browser', args: ['--project', 'browser'] },
    // Files side by side: each test that breaks a machine has one of its own, and most of the time they wait.
    { name: 'hosts', args: ['--project', 'hosts', '--fileParallelism', '--maxWorkers=3'], lab: ['--light'] },
    { name: 'cluster', args: ['--project', 'cluster'], lab: [], env: small },
    { name: 'e2e-migration', args: ['--project', 'e2e', '2-migration'], lab: [], env: full },
  ],
  [
    { name: 'e2e-rollback', args: ['--project', 'e2e', '1-rollback'], lab: stackedLab, env: full },
    { name: 'e2e-masters', args: ['--project', 'e2e', '3-masters'], lab: stackedLab, env: small },
  ],
];

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

const root = join(import.meta.dirname, '..');
const results = join(root, 'test-results');

/** Runs to the end; every line is written with the name of its stage before it. */
async function run(stage: string, argv: string[], env: Record<string, string> = {}): Promise<number> {
  const [file = '', ...args] = argv;
  const child = spawn(file, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  const copy = async (from: Readable, to: NodeJS.WriteStream): Promise<void> => {
    for await (const line of createInterface({ input: from })) to.write(`[${stage}] ${line}\n`);
  };
  const written = Promise.all([copy(child.stdout, process.stdout), copy(child.stderr, process.stderr)]);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (exit) => resolve(exit ?? 1));
  });
  // What outlives the child may keep its output open: a lab's keeper does.
  await Promise.race([written, new Promise((resolve) => setTimeout(resolve, 1000))]);
  return code;
}

interface VitestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numFailedTestSuites: number;
  success: boolean;
}

/** A stage whose report is missing, or that failed without a failed test, counts as one failure: nothing passes by silence. */
async function count(reportFile: string, exitCode: number): Promise<Count> {
  let report: VitestReport | undefined;
  try {
    report = JSON.parse(await readFile(reportFile, 'utf8')) as VitestReport;
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const failed = report.numFailedTests > 0 ? report.numFailedTests : report.success && exitCode === 0 ? 0 : 1;
  return { passed: report.numPassedTests, failed, skipped: report.numPendingTests };
}

async function runStage(stage: Stage): Promise<Count> {
  const node = process.execPath;
  const lab = [node, join(root, 'lab', 'cli.ts')];
  const report = join(results, `${stage.name}.json`);
  const env = { ...stage.env, LAB_NAME: `test-${stage.name}-${process.pid}` };
  const vitest = [node, join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run', ...stage.args];
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  if (stage.lab === undefined) return count(report, await run(stage.name, [...vitest, ...reporters], env));
  try {
    const up = await run(stage.name, [...lab, 'up', ...stage.lab, '--while', String(process.pid)], env);
    if (up !== 0) {
      console.error(`stage ${stage.name}: the lab did not come up (exit ${up}); its tests did not run`);
      return { passed: 0, failed: 1, skipped: 0 };
    }
    return await count(report, await run(stage.name, [...lab, 'run', ...vitest, ...reporters], env));
  } finally {
    await run(stage.name, [...lab, 'down'], env);
  }
}

async function main(): Promise<void> {
  const only = process.argv.slice(2);
  const stages = [...first, ...lanes.flat()];
  const unknown = only.filter((name) => !stages.some((stage) => stage.name === name));
  if (unknown.length > 0)
    throw new Error(`no such stage: ${unknown.join(', ')}; there are ${stages.map((s) => s.name).join(', ')}`);
  await rm(results, { recursive: true, force: true });
  await mkdir(results, { recursive: true });
  const total: Count = { passed: 0, failed: 0, skipped: 0 };
  const lines: string[] = [];
  const runLane = async (lane: readonly Stage[]): Promise<void> => {
    for (const stage of lane.filter(({ name }) => only.length === 0 || only.includes(name))) {
      const started = Date.now();
      const { passed, failed, skipped } = await runStage(stage);
      total.passed += passed;
      total.failed += failed;
      total.skipped += skipped;
      const seconds = Math.round((Date.now() - started) / 1000);
      lines.push(`${stage.name}: ${passed} passed, ${failed} failed, ${skipped} skipped in ${seconds} s`);
    }
  };
  await runLane(first);
  await Promise.all(lanes.map(runLane));
  console.log(lines.map((line) => `  ${line}`).join('\n'));
  console.log(`tests: ${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
}

await main();
