/**
 * npm run demo [-- --yes] [-- --down]: a whole migration on the lab's machines, with the commands that an operator types on the night.
 * Every gate is approved by the plain `temporal workflow signal`; a person is asked first, unless --yes answers for scripts. Ends with 1
 * when one acknowledged record is missing or the migration did not end migrated. Leaves the lab, its Web UI and the report, unless --down.
 */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import type { GateName } from '../src/plan/plan.ts';
import type { MigrationStatus } from '../src/workflows/messages.ts';
import { partFolder } from './build/parts.ts';
import { files, labState, repository } from './paths.ts';
import { isAlive, pause, readPid, startInLab } from './process.ts';
import { labEnvironment } from './up.ts';

const ports = { ui: 8233, frontend: 7233 };
const output = join(repository, 'demo-output');
const mapping = 'old1=new1,old2=new2,old3=new3';
/** No phase of this small migration takes longer; a demo that waits for ever would look like one that works. */
const patience = 45 * 60_000;

const ferry = [process.execPath, join(repository, 'src', 'client', 'bin.ts')];
const lab = [process.execPath, join(repository, 'lab', 'cli.ts')];
const outside = { TEMPORAL_ADDRESS: `127.0.0.1:${ports.frontend}` };

function title(text: string): void {
  console.log(`\n── ${text} ${'─'.repeat(Math.max(3, 100 - text.length))}`);
}

interface Surroundings {
  env?: Record<string, string>;
  /** Nobody is there to be asked. Default false: the command has this terminal. */
  isAlone?: boolean;
}

/** Runs a command with this terminal; what is shown is what a person would type. */
async function attached(
  argv: readonly string[],
  shown: string | undefined,
  { env = {}, isAlone = false }: Surroundings = {},
): Promise<number> {
  if (shown !== undefined) console.log(`$ ${shown}`);
  const [file = '', ...args] = argv;
  const child = spawn(file, args, {
    stdio: [isAlone ? 'ignore' : 'inherit', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

async function must(argv: readonly string[], shown: string | undefined, around: Surroundings = {}): Promise<void> {
  const code = await attached(argv, shown, around);
  if (code !== 0) throw new Error(`${shown ?? argv.join(' ')} ended with ${code}`);
}

const inside = (...argv: string[]): string[] => [...lab, 'run', ...argv];

async function question(text: string, isAnswered: boolean): Promise<string> {
  if (isAnswered) {
    console.log(`${text}y (--yes)`);
    return 'y';
  }
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return (await prompt.question(text)).trim().toLowerCase();
  } finally {
    prompt.close();
  }
}

async function bringUp(yes: boolean): Promise<void> {
  title('the lab: six machines, a Kubernetes control plane, databases, Temporal');
  if (readPid(files.keeper) !== undefined) {
    const answer = await question('A lab is up already; the demo needs a fresh one. Take it down? [y/N] ', yes);
    if (!answer.startsWith('y'))
      throw new Error('the lab that is up was left alone; take it down: npm run -s lab -- down');
    await must([...lab, 'down'], 'npm run -s lab -- down');
  }
  await must([...lab, 'up', '--ui-port', String(ports.ui)], 'npm run -s lab -- up');
  await must(
    [...lab, 'break', 'apply-flake', '1'],
    'npm run -s lab -- break apply-flake 1    # the first removal will fail as it does in the field',
  );
}

/** Follows on one screen until somebody has to decide; answers the status that ended it. */
async function follow(client: Client, workflowId: string, deadline: number): Promise<MigrationStatus> {
  const argv = [...ferry, 'watch', workflowId];
  const [file = '', ...args] = argv;
  console.log(`$ ferry watch ${workflowId}`);
  const screen = spawn(file, args, { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...outside } });
  const gone = new Promise<void>((resolve) => screen.once('exit', () => resolve()));
  try {
    for (;;) {
      const status = await client.workflow
        .getHandle(workflowId)
        .query<MigrationStatus>('status')
        .catch(() => undefined);
      if (status !== undefined && !['running', 'rolling-back'].includes(status.state)) {
        // One more look, so that the screen shows what it is that people decide on.
        await pause(1500);
        return status;
      }
      if (Date.now() > deadline)
        throw new Error(
          `nothing to decide and no end after ${patience / 60_000} minutes; see ferry status ${workflowId}`,
        );
      await pause(500);
    }
  } finally {
    if (screen.exitCode === null) screen.kill('SIGINT');
    await gone;
  }
}

async function signal(workflowId: string, name: string, input: object): Promise<void> {
  const text = JSON.stringify(input);
  const argv = ['workflow', 'signal', '--workflow-id', workflowId, '--name', name, '--input', text];
  const shown = `temporal ${argv.slice(0, -1).join(' ')} '${text}'`;
  await must([join(partFolder('temporal'), 'temporal'), ...argv], shown, { env: outside });
}

const reasons: Record<GateName, string> = {
  'open-downtime': 'the window is open and the projection fits',
  'remove-nodes': 'components run on the new nodes, placement and probes are proved',
  'close-downtime': 'the result is checked and accepted',
};

/** Asks at a gate, a pause or a blocked phase, and sends what was chosen. */
async function decide(workflowId: string, status: MigrationStatus, yes: boolean): Promise<void> {
  const by = process.env['FERRY_USER'] ?? 'demo';
  if (status.awaitingGate !== undefined) {
    const gate = status.awaitingGate;
    title(`gate ${gate}`);
    const { projectedSeconds, projectedErrorSeconds, spentSeconds, budgetSeconds } = status.downtime;
    console.log(
      `downtime: ${Math.round(projectedSeconds)} ± ${Math.round(projectedErrorSeconds)} s projected, ${Math.round(spentSeconds)} s spent, ${budgetSeconds} s budgeted`,
    );
    const answer = await question(`Approve ${gate}? [y = approve, r = reject, anything else looks again] `, yes);
    if (answer.startsWith('y'))
      await signal(workflowId, 'approve', { gate, by, reason: reasons[gate], planDigest: status.planDigest });
    else if (answer.startsWith('r')) await signal(workflowId, 'reject', { gate, by, reason: 'rejected in the demo' });
    return;
  }
  const { blocked } = status;
  title(blocked === undefined ? status.state : `phase ${blocked.phase} is blocked`);
  if (blocked !== undefined)
    console.log(`${blocked.cause}\nleft untouched: ${blocked.untouched}\nnext: ${blocked.next}`);
  if (yes) throw new Error(`the migration is ${status.state} and nobody is there to decide`);
  const answer = await question('[r = resume, a = abort, anything else looks again] ', false);
  if (answer.startsWith('r')) await signal(workflowId, 'resume', { by });
  else if (answer.startsWith('a')) await signal(workflowId, 'abort', { by, reason: 'aborted in the demo' });
}

async function migrate(client: Client, workflowId: string, yes: boolean): Promise<MigrationStatus> {
  const deadline = Date.now() + patience;
  for (;;) {
    const status = await follow(client, workflowId, deadline);
    if (status.state === 'completed' || status.state === 'rolled-back') return status;
    await decide(workflowId, status, yes);
    // A decision that counts changes the status within a moment.
    await pause(1000);
  }
}

function describe(status: MigrationStatus): string {
  const { downtime, transfers, decisions } = status;
  const literal = transfers.flatMap(({ passes }) => passes).reduce((sum, { literalBytes }) => sum + literalBytes, 0);
  const moved = transfers.map(({ id, source, destination, passes, digest }) => {
    const sent = passes.reduce((sum, pass) => sum + pass.literalBytes, 0);
    return `  ${id.padEnd(24)} ${source} → ${destination}  ${passes.length} passes, ${sent} bytes sent, ${digest?.slice(0, 19) ?? 'not verified'}`;
  });
  const decided = decisions.map(
    ({ decision, gate, by, at, reason, counted, why }) =>
      `  ${at.slice(11, 19)} ${decision} ${gate ?? ''} by ${by}: ${reason}${counted ? '' : ` (did not count: ${why ?? ''})`}`,
  );
  const opened = decisions.find(
    ({ gate, decision, counted }) => counted && gate === 'open-downtime' && decision === 'approve',
  );
  const projected = opened?.projectedDowntimeSeconds;
  return [
    `${transfers.length} directories moved, ${literal} bytes sent`,
    ...moved,
    'decisions',
    ...decided,
    `downtime ${Math.round(downtime.spentSeconds)} s; projected ${projected === undefined ? 'never' : `${Math.round(projected)} s`} when the window was opened, budget ${downtime.budgetSeconds} s`,
  ].join('\n');
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { yes: { type: 'boolean', default: false }, down: { type: 'boolean', default: false } },
  });
  if (!values.yes && !process.stdin.isTTY)
    throw new Error('the demo asks at its gates and there is no terminal to ask on: npm run demo -- --yes');
  mkdirSync(output, { recursive: true });
  await bringUp(values.yes);
  try {
    title('the plan');
    const yaml = join(output, 'plan.yaml');
    const planned = ['ferry', 'plan', '--map', mapping];
    await must(
      inside(...planned, '-o', 'yaml', '--output-file', yaml),
      `ferry plan --map ${mapping} -o yaml --output-file ${yaml}`,
      // It asks what it cannot know, and says what it takes where it cannot ask.
      { isAlone: values.yes },
    );
    await must(inside('ferry', 'check', yaml), `ferry check ${yaml}`);
    title('the migration');
    const started = { env: labEnvironment(), isWatched: true };
    const worker = startInLab([...ferry, 'worker'], join(labState, 'worker.log'), started);
    console.log(`$ ferry worker    # log: ${join(labState, 'worker.log')}`);
    await must([...ferry, 'start', yaml], `ferry start ${yaml}`, { env: outside });
    console.log(`Web UI: http://127.0.0.1:${ports.ui}`);
    const connection = await Connection.connect({ address: `127.0.0.1:${ports.frontend}` });
    const client = new Client({ connection });
    const workflowId = await runningMigration(client);
    let status: MigrationStatus;
    try {
      status = await migrate(client, workflowId, values.yes);
    } finally {
      await connection.close();
      if (!isAlive(worker.pid ?? 0))
        console.error(`the worker ended on its own; its log: ${join(labState, 'worker.log')}`);
    }
    title('the result');
    const html = join(output, 'report.html');
    await must(
      [...ferry, 'report', workflowId, '-o', 'html', '--output-file', html],
      `ferry report ${workflowId} -o html --output-file ${html}`,
      { env: outside },
    );
    console.log(describe(status));
    const ledger = await attached(
      inside(process.execPath, join(repository, 'lab', 'workloads', 'main.ts'), 'ledger'),
      undefined,
    );
    console.log(`\nreport: ${html}`);
    if (!values.down) {
      console.log(`Web UI: http://127.0.0.1:${ports.ui}/namespaces/default/workflows/${workflowId}`);
      console.log('the lab stays up: npm run -s lab -- status | run COMMAND | ssh HOST | down');
    }
    if (ledger !== 0) console.error('the ledger is not complete: acknowledged records are missing');
    if (status.state !== 'completed') console.error(`the migration ended ${status.state}`);
    return ledger === 0 && status.state === 'completed' ? 0 : 1;
  } finally {
    if (values.down) await attached([...lab, 'down'], undefined);
  }
}

/** The one migration that runs. */
async function runningMigration(client: Client): Promise<string> {
  for (let attempt = 0; attempt < 40; attempt++) {
    for await (const { workflowId } of client.workflow.list({ query: 'WorkflowType = "migrateNodes"' })) {
      return workflowId;
    }
    await pause(250);
  }
  throw new Error('the migration that was started is not listed by Temporal');
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
