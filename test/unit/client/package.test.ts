import { execFile, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { utils } from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { ensureParts, partFolder } from '../../../lab/build/parts.ts';
import { version } from '../../../src/version.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const run = promisify(execFile);

const directory = mkdtempSync(join(tmpdir(), 'ferry-package-'));
/** A checkout of its own: packing builds, and a build in the real one would be in the way of whoever works there. */
const checkout = join(directory, 'checkout');
let packed: string[] = [];
let tarball = '';
const prefix = join(directory, 'global');
const installed = join(prefix, 'bin', 'ferry');
const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, HOME: directory };

beforeAll(async () => {
  const parts = ['src', 'docs', 'deploy', 'package.json', 'tsconfig.json', 'tsconfig.build.json'];
  const texts = ['README.md', 'README.zh-CN.md', 'CHANGELOG.md', 'LICENSE', 'docker-compose.temporal.yml'];
  for (const part of [...parts, ...texts]) cpSync(join(root, part), join(checkout, part), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
  // Not ignoring scripts: prepack is what puts dist there.
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', directory], {
    cwd: checkout,
    maxBuffer: 2 ** 24,
  });
  const [pack] = JSON.parse(stdout.slice(stdout.search(/^\[$/m))) as [{ filename: string; files: { path: string }[] }];
  packed = pack.files.map(({ path }) => path);
  tarball = join(directory, pack.filename);
}, 240_000);

// Whole installations lie there: a busy disk takes its time.
afterAll(() => rmSync(directory, { recursive: true, force: true }), 120_000);

/** Installs the packed file; what was ever fetched is not fetched again. */
async function install(cwd: string, ...options: string[]): Promise<void> {
  const quick = ['--prefer-offline', '--no-audit', '--no-fund', '--omit=dev', '--loglevel=error'];
  await run('npm', ['install', ...quick, ...options, tarball], { cwd, maxBuffer: 2 ** 24 });
}

describe('the package', () => {
  it.each([
    'dist/client/bin.js',
    'dist/worker.js',
    'dist/workflow-bundle.generated.cjs',
    'dist/workflows/all.js',
    'dist/workflows/messages.d.ts',
    'docs/images/report.png',
    'docs/reference.md',
    'deploy/systemd/ferry-worker.service',
    'docker-compose.temporal.yml',
    'README.md',
    'README.zh-CN.md',
    'CHANGELOG.md',
    'LICENSE',
  ])('holds %s', (file) => {
    expect(packed).toContain(file);
  });

  it('holds nothing else', () => {
    const meant = [
      /^dist\/.*\.(js|d\.ts|cjs)$/,
      /^docs\/([\w-]+\.md|images\/[\w-]+\.png)$/,
      /^deploy\/(grafana|kubernetes|prometheus|systemd)\/[\w-]+\.(json|yaml|yml|service)$/,
      /^(README(\.zh-CN)?\.md|CHANGELOG\.md|LICENSE|package\.json|docker-compose\.temporal\.yml)$/,
    ];

    expect(packed.filter((file) => !meant.some((pattern) => pattern.test(file)))).toEqual([]);
  });

  it('holds whatever its documents lead to', () => {
    const dead = packed
      .filter((file) => file.endsWith('.md'))
      .flatMap((file) =>
        [...readFileSync(join(checkout, file), 'utf8').matchAll(/\]\((?!\w+:|#)([^)#\s]+)[^)]*\)/g)]
          .map(([, link = '']) => join(dirname(file), link))
          .filter((target) => !packed.includes(target)),
      );

    expect(dead).toEqual([]);
  });

  it('tells nobody where it was built', async () => {
    await run('tar', ['-xzf', tarball, '-C', directory, 'package/dist']);

    const { stdout } = await run('grep', ['-rlF', checkout, join(directory, 'package', 'dist')]).catch(
      (error: unknown) => error as { stdout: string },
    );
    const bundle = readFileSync(join(directory, 'package', 'dist', 'workflow-bundle.generated.cjs'), 'utf8');
    const map = Buffer.from(/sourceMappingURL=[^,]*,(\S+)/.exec(bundle)?.[1] ?? '', 'base64').toString();

    expect(stdout).toBe('');
    expect(map).toContain('migrate-nodes');
    expect(map).not.toContain(checkout);
  });

  it('is one that publint has nothing to say against', { timeout: 120_000 }, async () => {
    const { messages, pkg } = await publint({ pack: { tarball: new Blob([readFileSync(tarball)]).stream() } });

    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
    expect(pkg).toMatchObject({ name: 'proton-ferry', version });
  });

  it('runs after a global install, on a machine with only Node', { timeout: 300_000 }, async () => {
    mkdirSync(prefix);
    await install(directory, '--global', '--prefix', prefix);
    const ferry = (...args: string[]): Promise<{ stdout: string }> =>
      run(installed, args, { env, cwd: '/', maxBuffer: 2 ** 24 });

    expect((await ferry('--version')).stdout.trim()).toBe(version);
    expect(JSON.parse((await ferry('schema')).stdout)).toMatchObject({ type: 'object' });
    expect((await ferry('--help')).stdout).toContain('ferry approve open-downtime');
  });

  it('is server, Web UI and worker by ferry dev, where there is a Temporal CLI', { timeout: 300_000 }, async () => {
    await ensureParts(['temporal']);
    const means = ['--ssh-identity', join(directory, 'identity'), '--kubeconfig', join(directory, 'kubeconfig')];
    writeFileSync(join(directory, 'identity'), utils.generateKeyPairSync('ed25519').private, { mode: 0o600 });
    writeFileSync(join(directory, 'kubeconfig'), kubeconfig);
    const [port, uiPort] = [await freePort(), await freePort()];
    const argv = ['dev', '--port', String(port), '--ui-port', String(uiPort), ...means];
    const path = `${partFolder('temporal')}:${env.PATH}`;
    const dev = spawn(installed, argv, { env: { ...env, PATH: path }, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    dev.stderr.setEncoding('utf8').on('data', (part: string) => (said += part));
    const ended = new Promise<number | null>((resolve) => dev.once('close', resolve));

    // It says this once the workflows are loaded and it asks for work.
    await expect.poll(() => said, { timeout: 120_000 }).toContain(`serves task queue ferry at 127.0.0.1:${port}`);
    const page = await fetch(`http://127.0.0.1:${uiPort}`);
    dev.kill('SIGINT');

    expect(page.status).toBe(200);
    expect(said).toContain(`ferry/${version} `);
    expect(await ended).toBe(0);
  });
});

/** A port that nobody listens on at this moment. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Of a cluster that nobody has to reach. */
const kubeconfig = stringify({
  ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'none' },
  clusters: [{ name: 'none', cluster: { server: 'https://127.0.0.1:1' } }],
  contexts: [{ name: 'none', context: { cluster: 'none', user: 'none' } }],
  users: [{ name: 'none', user: {} }],
});

/** What somebody else writes to start and decide a migration. Lines that must not compile are marked as such. */
const consumer = `
import { Client, Connection } from '@temporalio/client';
import type { CopyStatus } from 'proton-ferry/copy-messages';
import type { ReplicateRequest } from 'proton-ferry/copy-request';
import { approveSignal, approveUpdate, searchAttributes, statusQuery, taskQueue } from 'proton-ferry/messages';
import type { MigrationStatus } from 'proton-ferry/messages';
import { gateNames } from 'proton-ferry/plan';
import type { Plan } from 'proton-ferry/plan';
import { parsePlan } from 'proton-ferry/validate';
import type { migrateNodes } from 'proton-ferry/workflow';

export async function move(plan: Plan): Promise<string | undefined> {
  const client = new Client({ connection: await Connection.connect() });
  const handle = await client.workflow.start<typeof migrateNodes>('migrateNodes', {
    workflowId: \`migrate-\${plan.cluster}\`,
    taskQueue,
    args: [plan],
  });
  const status: MigrationStatus = await handle.query(statusQuery);
  const gate = status.awaitingGate;
  if (gate !== undefined) await handle.signal(approveSignal, { gate, by: 'li', reason: 'window open' });
  // @ts-expect-error there is no such gate
  await handle.signal(approveSignal, { gate: 'open-sesame', by: 'li', reason: 'window open' });
  // @ts-expect-error a decision needs a reason
  await handle.executeUpdate(approveUpdate, { args: [{ gate: 'remove-nodes', by: 'li' }] });
  // @ts-expect-error a plan is not a string
  await client.workflow.start<typeof migrateNodes>('migrateNodes', { workflowId: 'x', taskQueue, args: ['plan'] });
  const attributes = (await handle.describe()).typedSearchAttributes;
  const phase: string | undefined = attributes.get(searchAttributes.phase);
  // @ts-expect-error the result says how it ended in two words only
  if ((await handle.result()).outcome === 'exploded') return undefined;
  return phase;
}

export type Copies = [ReplicateRequest, CopyStatus];
const plan = parsePlan('kind: MigrationPlan', 'yaml');
console.log(JSON.stringify({ taskQueue, gateNames, errors: plan.ok ? 0 : plan.errors.length }));
`;

/** The program in the reference, with the plan that it takes for granted. */
function exampleOfReference(): string {
  const [, example] =
    /```ts\n(import \{ Client \}.*?)```/s.exec(readFileSync(join(root, 'docs', 'reference.md'), 'utf8')) ?? [];
  if (example === undefined) throw new Error('docs/reference.md has no program any more');
  return `import type { Plan } from 'proton-ferry/plan';\ndeclare const plan: Plan;\n${example}`;
}

describe('whoever depends on the package', () => {
  it('starts and decides a migration in a typed way', { timeout: 300_000 }, async () => {
    const folder = join(directory, 'consumer');
    mkdirSync(folder);
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', type: 'module', private: true }));
    writeFileSync(join(folder, 'consumer.ts'), consumer);
    writeFileSync(join(folder, 'example.ts'), exampleOfReference());
    const compilerOptions = {
      ...{ module: 'nodenext', target: 'es2023', strict: true, exactOptionalPropertyTypes: true },
      ...{ noEmit: true, skipLibCheck: false, types: ['node'], typeRoots: [join(root, 'node_modules', '@types')] },
    };
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: ['consumer.ts', 'example.ts'] }),
    );
    await install(folder);

    const compiled = await run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc')], {
      cwd: folder,
    }).catch((error: unknown) => error as { stdout: string });
    const ran = await run(process.execPath, ['consumer.ts'], { cwd: folder });

    // Temporal's own declarations do not pass under all of these options; ours have to.
    const errors = compiled.stdout.split('\n').filter((line) => /^\S/.test(line));
    expect(errors.filter((line) => !line.startsWith('node_modules/@temporalio/'))).toEqual([]);
    const { errors: planErrors, ...rest } = JSON.parse(ran.stdout) as { errors: number };
    expect(rest).toEqual({ taskQueue: 'ferry', gateNames: ['open-downtime', 'remove-nodes', 'close-downtime'] });
    expect(planErrors).toBeGreaterThan(3);
  });
});
