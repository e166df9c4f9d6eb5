import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MigrationResult } from '../../src/workflows/messages.ts';
import type { Handle } from '../workflow/harness.ts';
import { approve, statusOf, until, untilGate } from '../workflow/harness.ts';
import { planOf } from '../workflow/plans.ts';
import { createWorld } from '../workflow/world.ts';
import type { Browser } from './chromium.ts';
import { startBrowser } from './chromium.ts';
import type { Temporal } from './temporal.ts';
import { startTemporal } from './temporal.ts';
import { openDetails, openList, openWorkflow, send, waitForBars } from './web-ui.ts';

/*
 * One migration from its start to its report, with nothing but a browser, in the order in which somebody would do it. Each test goes on
 * where the one before it has stopped.
 */

/** The timeline draws only what is in sight. */
const tall = { width: 1440, height: 4000 };
const run = promisify(execFile);
const root = join(import.meta.dirname, '..', '..');
const cluster = 'site-a';
const workflowId = `migrate-${cluster}`;
/** What somebody might type who means no good: it has to stay text wherever it is shown. */
const hostile = `<script>window.wasRun = true</script><img src="https://example.invalid/x.png" onerror="window.wasRun = true">`;
const wasRun = `'wasRun' in window`;

let temporal: Temporal;
let browser: Browser;
let page: Page;
let folder: string;
let handle: Handle;
const approvers = { approvers: ['li', 'zhao'], required: 1, selfApproval: false };
const plan = planOf(cluster, {
  limits: { refreshSeconds: 86_400 },
  gates: { 'open-downtime': approvers, 'remove-nodes': approvers, 'close-downtime': approvers },
});

beforeAll(async () => {
  temporal = await startTemporal();
  browser = await startBrowser();
  // The Web UI asks the maker for news, which a machine without a network waits for.
  await browser.context.route(/newsfeed/, (route) => route.abort());
  page = await browser.context.newPage();
  await page.setViewportSize(tall);
  folder = await mkdtemp(join(tmpdir(), 'ferry-operator-'));
  createWorld(plan);
  await writeFile(join(folder, 'plan.json'), JSON.stringify(plan));
  await ferry('start', join(folder, 'plan.json'));
  handle = temporal.client.workflow.getHandle(workflowId);
  await untilGate(handle, 'open-downtime');
});

afterAll(async () => {
  await browser.close();
  await temporal.stop();
  await rm(folder, { recursive: true, force: true });
});

type Clip = { x: number; y: number; width: number; height: number };

/** The real command, as installed. */
async function ferry(...args: string[]): Promise<string> {
  const argv = [join(root, 'src', 'client', 'bin.ts'), '--address', temporal.address, ...args];
  const { stdout, stderr } = await run(process.execPath, argv, { env: { ...process.env, NO_COLOR: '1' } });
  return stdout + stderr;
}

/** A picture for the documents, taken when somebody asks for new ones. */
async function takePicture(name: string, of: Page = page, clip?: Clip): Promise<void> {
  if (process.env['UPDATE_PICTURES'] !== '1') return;
  await mkdir(join(root, 'docs', 'images'), { recursive: true });
  await of.screenshot({ path: join(root, 'docs', 'images', name), ...(clip === undefined ? {} : { clip }) });
}

describe('in the Web UI', () => {
  it('the list finds the migration that awaits a gate, and only that one', async () => {
    const other = createWorld(planOf('site-b'));
    const hold = other.hold('preflight');
    const busy = await temporal.start(other.plan);
    await hold.reached;

    const awaiting = await openList(page, temporal.ui, 'FerryAwaitingGate IS NOT NULL');
    const all = await openList(page, temporal.ui, 'WorkflowType = "migrateNodes"');
    hold.release();
    await busy.terminate();

    expect(awaiting).toContain(workflowId);
    expect(awaiting).not.toContain('migrate-site-b');
    expect(all).toEqual(expect.arrayContaining([workflowId, 'migrate-site-b']));
  });

  it('the timeline shows phases, what they did and the gate that is open', async () => {
    await openWorkflow(page, temporal.ui, workflowId);

    await waitForBars(page, [
      '§4 preflight',
      'preflight • all checks of the plan',
      '§5 prewarm',
      '§6 backup',
      '§7 replicate',
      'copy redis-0 old1 → new1',
      'gate open-downtime awaits approval',
    ]);
    const early = await page.getByText('§8 stop-apps', { exact: true }).count();

    expect(early).toBe(0);
  });

  it('its details hold the ladder and the command that approves', async () => {
    const details = await openDetails(page);

    const text = await details.innerText();
    const [, input = ''] = await details.locator('pre').allInnerTexts();
    const rows = await details.locator('table').first().locator('tr').allInnerTexts();
    const command = await details
      .locator('pre, code')
      .filter({ hasText: 'temporal workflow signal' })
      .first()
      .innerText();
    const summary = page.locator('iframe[src*="/render"]').first().contentFrame();
    await summary.getByText(`${cluster}: old1 → new1, old2 → new2`).waitFor();
    // Down to the last phase.
    await page.setViewportSize({ width: 1440, height: 1340 });
    await takePicture('web-ui-gate.png');
    await page.setViewportSize(tall);

    expect(text).toContain('Gate open-downtime awaits 1 approval: li or zhao.');
    expect(JSON.parse(input)).toEqual({ gate: 'open-downtime', by: 'li', reason: 'WHY', planDigest: plan.digest });
    expect(rows.map((row) => row.split(/\s+/).slice(0, 3).join(' '))).toEqual(
      expect.arrayContaining(['4 preflight done', '7 replicate parked', '8 stop-apps pending', '17 verify pending']),
    );
    expect(command.trim()).toMatch(
      /^temporal workflow signal --workflow-id migrate-site-a --name approve --input '\{"gate":"open-downtime",.*\}'$/,
    );
  });

  it('details of the greatest length are drawn whole, though they travel in an address', async () => {
    const row = '| kafka-0 | old1:/sysvol/kafka | new1:/sysvol/kafka | fresh |\n';
    const rows = Math.floor(18_000 / row.length) - 2;
    const text = `| a | b | c | d |\n|---|---|---|---|\n${row.repeat(rows)}`;
    const address = `${temporal.ui}/render?content=${encodeURIComponent(text)}&theme=light`;
    const large = await browser.context.newPage();
    await large.goto(address);
    await large.locator('table').waitFor();
    const drawn = await large.locator('tbody tr').count();
    await large.close();

    expect(drawn).toBe(rows);
    expect(address.length).toBeLessThan(65_536);
  });

  it('the form of a signal opens the first gate', async () => {
    await openWorkflow(page, temporal.ui, workflowId);
    await send(page, 'Signal', 'approve', { gate: 'open-downtime', by: 'li', reason: 'the window is open' });
    const status = await untilGate(handle, 'remove-nodes');

    expect(status.decisions).toMatchObject([
      {
        decision: 'approve',
        gate: 'open-downtime',
        by: 'li',
        reason: 'the window is open',
        via: 'signal',
        counted: true,
      },
    ]);
    await openWorkflow(page, temporal.ui, workflowId);
    await waitForBars(page, ['§8 stop-apps', 'gate remove-nodes awaits approval']);
  });

  it('the form of an update says why it is refused, and nothing has happened', async () => {
    const dialog = await send(page, 'Update', 'approve', { gate: 'close-downtime', by: 'li', reason: 'too early' });
    const sentence = 'gate close-downtime is not open yet; the gate that awaits a decision is remove-nodes';
    await page.getByText(sentence).first().waitFor();
    const { decisions, awaitingGate } = await statusOf(handle);
    await dialog.getByTestId('cancel-modal-button').click();

    expect(awaitingGate).toBe('remove-nodes');
    expect(decisions).toHaveLength(1);
  });

  it('the form of an update opens the next gate', async () => {
    await openWorkflow(page, temporal.ui, workflowId);
    await send(page, 'Update', 'approve', {
      gate: 'remove-nodes',
      by: 'zhao',
      reason: hostile,
      planDigest: plan.digest,
    });
    const status = await untilGate(handle, 'close-downtime');

    expect(status.pointOfNoReturn).toBe(true);
    expect(status.decisions.at(-1)).toMatchObject({ by: 'zhao', gate: 'remove-nodes', via: 'update', counted: true });
  });

  it('the timeline of the finished migration reads like the runbook', async () => {
    await approve(handle, 'close-downtime');
    const { outcome, status }: MigrationResult = await handle.result();
    await openWorkflow(page, temporal.ui, workflowId);
    await waitForBars(
      page,
      status.phases.filter(({ state }) => state !== 'skipped').map(({ section, name }) => `§${section} ${name}`),
    );
    await waitForBars(
      page,
      status.gates.map(({ name }) => `gate ${name} awaits approval`),
    );

    const { y = 0 } = (await page.getByRole('heading', { name: 'Timeline' }).boundingBox()) ?? {};
    await page.locator('button:visible').filter({ hasText: 'Descending' }).click();
    await page.locator('button:visible').filter({ hasText: 'Ascending' }).waitFor();
    await takePicture('web-ui-timeline.png', page, { x: 270, y: y - 16, width: 1170, height: 1060 });

    expect(outcome).toBe('migrated');
    expect(await page.evaluate(wasRun)).toBe(false);
  });
});

describe('the report in the browser', () => {
  let report: Page;
  const requests: string[] = [];
  let file: string;

  beforeAll(async () => {
    await until(handle, 'the end', ({ state }) => state === 'completed');
    file = join(folder, 'report.html');
    await ferry('report', workflowId, '--output-file', file);
    report = await browser.context.newPage();
    report.on('request', (request) => requests.push(request.url()));
    await report.goto(pathToFileURL(file).href, { waitUntil: 'networkidle' });
  });

  it('asks for nothing but itself', () => {
    expect(requests).toEqual([pathToFileURL(file).href]);
  });

  it('shows the timeline with every phase and gate', async () => {
    const svg = report.locator('svg').first();
    const box = await svg.boundingBox();
    const text = (await svg.textContent()) ?? '';
    const { phases, gates } = await statusOf(handle);

    expect(box?.width).toBeGreaterThan(600);
    expect(box?.height).toBeGreaterThan(200);
    for (const { name } of [...phases, ...gates]) expect(text).toContain(name);
  });

  it('lists every decision with who, why, how and the identity that the server recorded', async () => {
    const rows = report.locator('h2:text-is("Decisions") + div tbody tr');
    const texts = await Promise.all((await rows.all()).map((row) => row.locator('td').allTextContents()));
    const cells = texts.map((row) => row.map((text) => text.trim()));

    expect(cells.map(([, what, who, why]) => [what, who, why])).toEqual([
      ['approve open-downtime', 'li', 'the window is open'],
      ['approve remove-nodes', 'zhao', hostile],
      ['approve close-downtime', 'li', 'looks good'],
    ]);
    expect(cells.map(([, , , , identity = '']) => /\((?<via>\w+)\)$/.exec(identity)?.groups?.['via'])).toEqual([
      'signal',
      'update',
      'signal',
    ]);
  });

  it('runs nothing that somebody wrote into it', async () => {
    const isRun = await report.evaluate(wasRun);
    const elements = await report.locator('body script, body img').count();

    expect(isRun).toBe(false);
    expect(elements).toBe(0);
  });

  it('prints on paper with its headings', async () => {
    const headings = await report.locator('h1, h2').allInnerTexts();
    const pdf = await report.pdf({ format: 'A4', tagged: true, outline: true, printBackground: true });
    const pages = pdf.toString('latin1').match(/\/Type \/Page\b/g)?.length ?? 0;

    expect(pdf.subarray(0, 5).toString()).toBe('%PDF-');
    expect(pages).toBeGreaterThan(0);
    expect(pages).toBeLessThan(12);
    expect(outlineOf(pdf)).toEqual(expect.arrayContaining(headings));
  });

  it('is the picture of the documents', async () => {
    // A report of real machines says more than one of the model, where there is one.
    const real = join(root, 'demo-output', 'report.html');
    if (existsSync(real)) await report.goto(pathToFileURL(real).href);
    await report.setViewportSize({ width: 1100, height: 1200 });
    // The head and the timeline; what comes after it is text.
    const after = await report.locator('h2').nth(1).boundingBox();
    await takePicture('report.png', report, { x: 0, y: 0, width: 1100, height: Math.floor((after?.y ?? 900) - 8) });

    expect(await report.locator('svg').count()).toBe(1);
  });
});

/** Titles in the outline of a PDF, which are the headings of the page it was printed from. */
function outlineOf(pdf: Buffer): string[] {
  const text = pdf.toString('latin1');
  return [...text.matchAll(/\/Title\s*(?:<(?<hex>[0-9A-Fa-f]+)>|\((?<plain>(?:\\.|[^\\)])*)\))/gs)].map(
    ({ groups }) => {
      if (groups?.['hex'] === undefined) return (groups?.['plain'] ?? '').replaceAll(/\\(.)/g, '$1');
      return Buffer.from(groups['hex'], 'hex').subarray(2).swap16().toString('utf16le');
    },
  );
}
