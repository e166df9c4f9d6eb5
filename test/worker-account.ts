import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments, stringify } from 'yaml';

const run = promisify(execFile);
const manifest = join(import.meta.dirname, '..', 'deploy', 'kubernetes', 'rbac.yaml');

interface Manifest {
  metadata: { namespace?: string };
}

/** The manifest as its first lines tell an operator to use it: without what names an operator that this platform does not have. */
function manifestFor(namespaces: readonly string[]): string {
  return parseAllDocuments(readFileSync(manifest, 'utf8'))
    .map((document) => document.toJS() as Manifest)
    .filter(
      ({ metadata: { namespace = '' } }) => !namespace.endsWith('-operator-system') || namespaces.includes(namespace),
    )
    .map((object) => stringify(object))
    .join('---\n');
}

interface Kubeconfig {
  users: { name: string; user: object }[];
  contexts: { context: { user: string } }[];
}

/**
 * Gives the worker its account in a cluster, as an operator does it, and writes a kubeconfig with the rights of that account and no others.
 * The namespaces of the platform have to be there. `admin` is the kubeconfig of whoever may do this.
 */
export async function workerKubeconfig(admin: string, file: string): Promise<string> {
  const kubectl = async (...args: string[]): Promise<string> =>
    (await run('kubectl', ['--kubeconfig', admin, ...args], { timeout: 60_000 })).stdout;
  const namespaces = (await kubectl('get', 'namespaces', '--output', 'jsonpath={.items[*].metadata.name}')).split(' ');
  const fitting = `${file}.rbac.yaml`;
  writeFileSync(fitting, manifestFor(namespaces));
  await kubectl('apply', '-f', fitting);
  const token = (await kubectl('-n', 'ferry', 'create', 'token', 'ferry-worker', '--duration=24h')).trim();
  const config = JSON.parse(await kubectl('config', 'view', '--raw', '--minify', '--output', 'json')) as Kubeconfig;
  config.users = [{ name: 'ferry-worker', user: { token } }];
  for (const { context } of config.contexts) context.user = 'ferry-worker';
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}
