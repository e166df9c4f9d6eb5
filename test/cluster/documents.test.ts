import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandLines, documents } from '../documents/command-lines.ts';

/*
 * Lines of the documents that look at a platform and its machines, typed as they stand; those that decide are typed in
 * test/workflow/documents.test.ts. They only read, but for a copy between two directories that nobody uses.
 */

const root = join(import.meta.dirname, '..', '..');
const directory = mkdtempSync(join(tmpdir(), 'ferry-documents-'));
/** The author is none of the approvers whom the lines name: a gate that nobody else may open is refused. */
const environment: NodeJS.ProcessEnv = { ...process.env, HOME: directory, NO_COLOR: '1', FERRY_USER: 'zhang' };
let worker: ChildProcess;
let workerEnded: Promise<unknown>;

async function onMachine(host: string, line: string): Promise<void> {
  await promisify(execFile)(process.execPath, [join(root, 'lab', 'cli.ts'), 'ssh', host, line]);
}

beforeAll(async () => {
  mkdirSync(join(directory, '.ssh'), { mode: 0o700 });
  copyFileSync(process.env['FERRY_SSH_IDENTITY'] ?? '', join(directory, '.ssh', 'id_ed25519'));
  // Several lines name it, others find it there by themselves.
  Reflect.deleteProperty(environment, 'FERRY_SSH_IDENTITY');
  // Of a rehearsal that was rolled back.
  const phase = { name: 'reinstall', startedAt: '2026-01-01T00:00:00Z', doneAt: '2026-01-01T00:07:00Z' };
  writeFileSync(join(directory, 'report.json'), JSON.stringify({ workflowId: 'migrate-prod', phases: [phase] }));
  await onMachine(
    'old1',
    'mkdir -p /srv/files /srv/a /sysvol/redis && seq 100000 | tee /srv/a/numbers > /srv/files/numbers',
  );
  worker = spawn('ferry', ['worker'], { env: environment, cwd: directory, stdio: 'ignore' });
  workerEnded = new Promise((resolve) => worker.once('exit', resolve));
});
afterAll(async () => {
  worker.kill('SIGTERM');
  await workerEnded;
  await onMachine('old1', 'rm -rf /srv/files /srv/a');
  await onMachine('new1', 'rm -rf /srv/files /srv/a /sysvol/redis');
  rmSync(directory, { recursive: true, force: true });
});

interface Answer {
  code: number;
  said: string;
}

/** What goes on for ever is ended by Ctrl-C after ten seconds. */
function type(line: string): Promise<Answer> {
  const typed = /^ferry worker\b/.test(line) ? `exec timeout --preserve-status --signal=INT 10 ${line}` : line;
  return new Promise((resolve) => {
    execFile('bash', ['-c', typed], { cwd: directory, env: environment }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, said: stdout + stderr });
    }).stdin?.end();
  });
}

/** Exit code and words of each, by the beginning of a line. */
const expected: readonly (readonly [RegExp, number, RegExp])[] = [
  [/^ferry plan --seal/, 0, /./],
  [/^ferry plan --map/, 0, /measuring old1:/],
  [/^ferry check /, 0, /\bssh\b/],
  [/^ferry diff .*>/, 0, /^/],
  [/^ferry diff /, 0, /new1/],
  // Nothing was ever moved here, and no backup was made.
  [/^ferry break-glass .*--cluster/, 0, /nothing to bring back/],
  [/^ferry break-glass .*--open/, 4, /no such file/],
  [/^ferry break-glass\b/, 4, /migration/],
  [/^ferry copy .* --live/, 0, /fresh/],
  [/^ferry copy /, 0, /proved|"proof"/],
  [/^ferry worker\b/, 0, /serves task queue/],
];

const lines = [
  ...new Set(
    documents
      .flatMap((document) => commandLines(document))
      .map(({ line }) => line.replace(/ +#.*$/, '').replace(/ \| .*$/, ''))
      .filter((line) => expected.some(([pattern]) => pattern.test(line)) && !line.includes('…')),
  ),
].toSorted((one, other) => rank(one) - rank(other));

/** The plan comes before what reads it; the one that is meant for the night last, so that the others find it. */
function rank(line: string): number {
  const last = line.endsWith('--approver zhao --output-file plan.yaml') ? 0.5 : 0;
  return expected.findIndex(([pattern]) => pattern.test(line)) === 0 ? 1.5 : /^ferry plan/.test(line) ? last : 2;
}

describe('lines of the documents', () => {
  it('are found', () => {
    for (const [pattern] of expected) expect(lines.filter((line) => pattern.test(line)).length).toBeGreaterThan(0);
  });

  it.each(lines)('%s', async (line) => {
    const [, code, words] = expected.find(([pattern]) => pattern.test(line)) ?? [];

    const answer = await type(line);

    expect({ ...answer, line }).toMatchObject({ code, said: expect.stringMatching(words ?? /$^/) as string });
  });
});
