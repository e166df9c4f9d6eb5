import {
  closeSync,
  createReadStream,
  createWriteStream,
  existsSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createOpener, headLength, readKey } from '../activities/backup-cipher.ts';
import { CliError } from './errors.ts';

/** Decrypts a file of a backup that was brought here, beside it; a snapshot of etcd may not fit into memory. Answers where it is. */
export async function openBackup(file: string, keyFile: string | undefined): Promise<string> {
  const plain = file.replace(/\.aes$/, '');
  if (plain === file) throw new CliError('usage', `${file} is not encrypted: its name does not end in .aes`);
  if (keyFile === undefined)
    throw new CliError('usage', `${file} is encrypted`, 'name its key: --backup-key-file FILE');
  if (existsSync(plain)) throw new CliError('usage', `${plain} exists already; nothing was done`, 'move it away');
  const key = await readKey(keyFile);
  const head = Buffer.alloc(headLength);
  const opened = openSync(file, 'r');
  readSync(opened, head);
  closeSync(opened);
  const part = `${plain}.part`;
  try {
    const sealed = createReadStream(file, { start: headLength });
    await pipeline(sealed, createOpener(head, key, basename(file)), createWriteStream(part, { mode: 0o600 }));
    renameSync(part, plain);
  } catch (error) {
    // What did not prove itself is nobody's backup.
    rmSync(part, { force: true });
    if ((error as NodeJS.ErrnoException).code?.startsWith('E') === true) throw error;
    throw new CliError(
      'failure',
      `${file} does not open: it was changed, has another name than it was made with, or this is not its key; nothing was written`,
      'compare it with the one on the machine (sha256sum), and the key with that of the worker (FERRY_BACKUP_KEY_FILE)',
      error,
    );
  }
  return plain;
}
