import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { Kubernetes } from './kubernetes.ts';
import { dumpYaml } from './rules/config.ts';

/** The namespaces that the tool remembers per host and user. */
export interface Namespaces {
  resource: string;
  config: string;
}

const defaults: Namespaces = { resource: 'resource', config: 'proton' };

function dotfile(): string | undefined {
  const home = process.env['HOME'];
  return home === undefined ? undefined : join(home, '.proton-cli.yaml');
}

/** No file, or one that does not parse: the defaults. A file that lacks a field: an empty namespace, in which nothing is found. */
export function readNamespaces(): Namespaces {
  const file = dotfile();
  if (file === undefined || !existsSync(file)) return defaults;
  try {
    const content = (parse(readFileSync(file, 'utf8')) ?? {}) as Record<string, unknown>;
    const text = (key: string): string => (typeof content[key] === 'string' ? content[key] : '');
    return { resource: text('resource_namespace'), config: text('proton_cli_config_namespace') };
  } catch {
    return defaults;
  }
}

function writeNamespaces({ resource, config }: Namespaces): void {
  const file = dotfile();
  if (file === undefined) return;
  process.stdout.write('write proton config\n');
  writeFileSync(file, dumpYaml({ resource_namespace: resource, proton_cli_config_namespace: config }));
}

/** With a namespace given: the file is made, kept, or flipped to the new one in both fields, without an error. */
export async function updateNamespaces(given: string, kubernetes: Kubernetes | undefined): Promise<void> {
  process.stdout.write(`Updating local configuration with namespace: ${given}\nupdate deploy namespace\n`);
  const file = dotfile();
  const exists = file !== undefined && existsSync(file);
  const find = async (name: string): Promise<boolean> => {
    if (kubernetes === undefined) return false;
    return kubernetes.call('GET', `/api/v1/namespaces/${name}`, undefined, 3000).then(
      () => true,
      () => false,
    );
  };
  if (!exists) {
    writeNamespaces((await find('proton')) ? defaults : { resource: given, config: given });
    return;
  }
  const isConnected = kubernetes !== undefined && (await find('default'));
  if (!isConnected || readNamespaces().resource !== given) writeNamespaces({ resource: given, config: given });
}

/** The client that the tool makes for itself: only ~/.kube/config counts; undefined when there is none. */
export function ownKubernetes(): Kubernetes | undefined {
  const home = process.env['HOME'];
  const file = home === undefined ? undefined : join(home, '.kube', 'config');
  if (file === undefined || !existsSync(file)) return undefined;
  try {
    return new Kubernetes(file);
  } catch {
    return undefined;
  }
}
