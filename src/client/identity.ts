import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { CliError } from './errors.ts';
import { readNamed } from './files.ts';

export interface Identity {
  file: string;
  privateKey: Buffer;
  passphrase?: string;
}

/** The private key that opens the machines, once it is sure that it can be used: nobody should learn that from the first copy. */
export function readIdentity(named: string | undefined, env: NodeJS.ProcessEnv = process.env): Identity {
  const file = findIdentity(named);
  const privateKey = readNamed(file);
  const passphrase = env['FERRY_SSH_PASSPHRASE'];
  const key = ssh2.utils.parseKey(privateKey, passphrase);
  if (key instanceof Error) throw unusable(file, key, passphrase !== undefined);
  if (!key.isPrivateKey()) {
    throw new CliError(
      'usage',
      `${file} is a public key; nothing was done`,
      'name the private one: --ssh-identity FILE',
    );
  }
  return { file, privateKey, ...(passphrase === undefined ? {} : { passphrase }) };
}

function unusable(file: string, { message }: Error, hasPassphrase: boolean): CliError {
  if (/no passphrase given/i.test(message)) {
    return new CliError(
      'usage',
      `${file} is encrypted; nothing was done`,
      'set FERRY_SSH_PASSPHRASE to its passphrase',
    );
  }
  return hasPassphrase && /passphrase|integrity|decrypt/i.test(message)
    ? new CliError('usage', `FERRY_SSH_PASSPHRASE does not open ${file}; nothing was done`, `ssh-keygen -y -f ${file}`)
    : new CliError(
        'usage',
        `${file} is no private key that ssh can use (${message}); nothing was done`,
        `ssh-keygen -y -f ${file}`,
      );
}

/** Named, else the first of ssh's own defaults that exists. */
function findIdentity(named: string | undefined): string {
  const candidates =
    named === undefined ? ['id_ed25519', 'id_ecdsa', 'id_rsa'].map((name) => join(homedir(), '.ssh', name)) : [named];
  const found = candidates.find((file) => existsSync(file));
  if (found !== undefined) return found;
  throw new CliError(
    'notFound',
    named === undefined
      ? 'there is no private key to reach the machines with; nothing was done'
      : `${named}: no such private key; nothing was done`,
    'name it: --ssh-identity FILE or FERRY_SSH_IDENTITY',
  );
}
