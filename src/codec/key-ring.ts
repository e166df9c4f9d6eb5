import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { CodecError } from './errors.ts';

/** Keys by id. New payloads are sealed with the active one, old ones open with whichever sealed them. */
export interface KeyRing {
  active: string;
  keys: ReadonlyMap<string, Buffer>;
}

const keyBytes = 32;
const rotation = 'see docs/security.md, payload encryption';

const ringSchema = z.strictObject({
  active: z.string('the id of the key that seals new payloads'),
  // The id stands readable in every payload.
  keys: z.record(
    z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
    z.string('base64 text').transform((text, context) => {
      const key = Buffer.from(text, 'base64');
      // Node reads past what is not base64: only text that comes out the same is what was meant.
      if (key.length === keyBytes && key.toString('base64') === text) return key;
      context.addIssue({
        code: 'custom',
        message: `not ${keyBytes} bytes in base64 (openssl rand -base64 ${keyBytes})`,
      });
      return z.NEVER;
    }),
  ),
});

/** Reads a key ring file: JSON or YAML, readable by its owner alone. What it holds is part of no error. */
export function readKeyRing(file: string): KeyRing {
  return parseKeyRing(readPrivateFile(file, 'the keys of the payloads'), file);
}

export function parseKeyRing(text: string, file: string): KeyRing {
  // Its own messages quote the line that is wrong, and that line is a key.
  const document = parseDocument(text, { prettyErrors: false });
  if (document.errors.length > 0) throw invalid(file, ['neither JSON nor YAML']);
  const parsed = ringSchema.safeParse(document.toJS());
  if (!parsed.success) {
    throw invalid(
      file,
      parsed.error.issues.map(
        (issue) => `${issue.path.length === 0 ? 'the file' : issue.path.join('.')}: ${messageOf(issue)}`,
      ),
    );
  }
  const keys = new Map(Object.entries(parsed.data.keys));
  const { active } = parsed.data;
  if (!keys.has(active)) throw invalid(file, [`active names ${JSON.stringify(active)}, which is not among the keys`]);
  return { active, keys };
}

function messageOf({ code, message }: { code?: string; message: string }): string {
  return code === 'invalid_key' ? 'not an id of at most 64 letters, digits, dots and dashes, such as 2026-01' : message;
}

function invalid(file: string, problems: readonly string[]): CodecError {
  return new CodecError(
    `${file} is no key ring: ${problems.join('; ')}`,
    `{"active":"ID","keys":{"ID":"BASE64 OF ${keyBytes} BYTES"}}; ${rotation}`,
  );
}

/** Text of a file that only its owner may read. systemd grants its credentials by an ACL, which shows as the group's right to read. */
export function readPrivateFile(file: string, what: string, env: NodeJS.ProcessEnv = process.env): string {
  let mode: number;
  try {
    mode = statSync(file).mode;
  } catch (error) {
    throw new CodecError(`${file}, ${what}, cannot be read: ${codeOf(error)}`, 'name the file that holds them', error);
  }
  const isCredential = env['CREDENTIALS_DIRECTORY'] === dirname(resolve(file));
  if ((mode & (isCredential ? 0o037 : 0o077)) !== 0) {
    throw new CodecError(
      `${file} holds ${what} and others may read it (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`,
      `chmod 600 ${file}`,
    );
  }
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CodecError(
      `${file}, ${what}, cannot be read: ${codeOf(error)}`,
      `run this as the owner of ${file}`,
      error,
    );
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown';
}
