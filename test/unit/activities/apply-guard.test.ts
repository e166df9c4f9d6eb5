import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { guardScript } from '../../../src/activities/apply-guard.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'guard-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Runs a shell script as the tool, under the guard with a pause of 0.5 s allowed. */
async function guarded(tool: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const guard = join(directory, 'guard.sh');
  await writeFile(guard, guardScript);
  const child = spawn('/bin/sh', [guard, '50', '0.5', '/bin/sh', '-c', tool], { cwd: directory });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}

const first = 'echo "msg=version info" >&2';
const marker = "printf '\\033[1;37;42mstart apply cluster conf\\033[0m\\n'";

describe('the guard around an apply', () => {
  it('passes output and success on', async () => {
    const result = await guarded(`${first}; ${marker}; echo more >&2; sleep 0.8; echo "Apply conf success"`);

    expect(result).toEqual({
      code: 0,
      stdout: '\u001b[1;37;42mstart apply cluster conf\u001b[0m\nApply conf success\n',
      stderr: 'msg=version info\nmore\n',
    });
  });

  it('passes the exit code and a last line without an end on', async () => {
    const result = await guarded(`${first}; printf 'Error: invalid' >&2; exit 1`);

    expect(result).toEqual({ code: 1, stdout: '', stderr: 'msg=version info\nError: invalid\n' });
  });

  it('ends the tool when it pauses before its start marker', async () => {
    const result = await guarded(`${first}; sleep 3; ${marker}; touch changed`);

    expect(result.code).toBe(86);
    await expect(readFile(join(directory, 'changed'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('ends the tool and what it started at the line of a fresh install', async () => {
    const result = await guarded(
      `${first}; ${marker}; echo "msg=init kubernetes cluster begin" >&2; (sleep 0.3; touch changed) & sleep 5; touch changed`,
    );

    expect(result.code).toBe(87);
    await new Promise((resolve) => setTimeout(resolve, 600));
    await expect(readFile(join(directory, 'changed'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('says nothing of a pause when the tool ends by itself before', async () => {
    const result = await guarded(`${first}; exit 3`);

    expect(result.code).toBe(3);
  });
});
