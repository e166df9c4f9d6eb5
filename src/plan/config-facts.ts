import { componentNamespace, componentRows } from './components.ts';
import type { ComponentRow, NameContext } from './components.ts';
import { readConfigTexts } from './config-edit.ts';
import type { ComponentFact, ConfigFact } from './facts.ts';

/** Value at a path of keys; keys match without regard to case, as the platform reads them, the last one wins. */
export function textAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((current, key) => {
    if (typeof current !== 'object' || current === null || Array.isArray(current)) return undefined;
    return Object.entries(current)
      .filter(([name]) => name.toLowerCase() === key.toLowerCase())
      .at(-1)?.[1];
  }, value);
}

/** A text that says something. */
export function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** The texts of a list; nothing where it is none. */
export function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : [];
}

/** What the configuration document says about nodes. No secret value gets out. */
export function configFacts(document: string): ConfigFact {
  const config = readConfigTexts(document);
  const nodes = textAt(config, ['nodes']);
  const runtime = textAt(config, ['cs', 'container_runtime']);
  const containerRuntime = (['containerd', 'docker'] as const).find((name) => {
    const section = textAt(runtime, [name]);
    return typeof section === 'object' && section !== null;
  });
  const storage = text(textAt(config, ['cr', 'local', 'storage']));
  const deployNamespace = text(textAt(config, ['deploy', 'namespace']));
  return {
    nodes: (Array.isArray(nodes) ? nodes : []).flatMap((node: unknown) => {
      const name = text(textAt(node, ['name']));
      const ip4 = text(textAt(node, ['ip4']));
      return name === undefined ? [] : [{ name, ...(ip4 === undefined ? {} : { ip4 }) }];
    }),
    masters: texts(textAt(config, ['cs', 'master'])),
    registryHosts: texts(textAt(config, ['cr', 'local', 'hosts'])),
    ...(storage === undefined ? {} : { registryStorage: storage }),
    ...(containerRuntime === undefined ? {} : { containerRuntime }),
    ...(deployNamespace === undefined ? {} : { deployNamespace }),
    ecephHosts: texts(textAt(config, ['eceph', 'hosts'])),
  };
}

/**
 * The components that the configuration puts on hosts, with the names their objects have by the table. `records` are the decoded values
 * of component-manage's Secret.
 */
export function componentFacts(
  document: string,
  records: Readonly<Record<string, string>>,
  resourceNamespace: string,
): ComponentFact[] {
  const config = readConfigTexts(document);
  const mode = text(textAt(config, ['opensearch', 'mode']));
  const context: NameContext = { resourceNamespace, ...(mode === undefined ? {} : { opensearchMode: mode }) };
  return componentRows.flatMap((row) => {
    const section = textAt(config, [row.section]);
    if (typeof section !== 'object' || section === null) return [];
    const storageClassName =
      text(textAt(section, ['storageClassName'])) ?? text(textAt(section, ['storage', 'storageClassName']));
    const hosts = texts(textAt(section, ['hosts']));
    if (hosts.length === 0 && storageClassName === undefined) return [];
    const dataPath = row.dataPath.map((path) => text(textAt(section, path))).find((path) => path !== undefined);
    const recorded = recordOf(row, records);
    return [
      {
        kind: row.kind,
        namespace: componentNamespace(row, context),
        statefulSets: row.statefulSets(context),
        ...(dataPath === undefined ? {} : { dataPath }),
        ...(storageClassName === undefined ? {} : { storageClassName }),
        ...(recorded === undefined ? {} : { recorded }),
        replicas: hosts.map((host, ordinal) => ({
          ordinal,
          host,
          pod: row.pod(ordinal, context),
          pvc: row.pvc(ordinal, context),
          pv: row.pv(ordinal, context),
          live: {},
        })),
      },
    ];
  });
}

function recordOf(row: ComponentRow, records: Readonly<Record<string, string>>): ComponentFact['recorded'] {
  const record = row.persist === undefined ? undefined : records[row.persist.key];
  if (record === undefined) return undefined;
  const value = readConfigTexts(record);
  const dataPath = text(textAt(value, ['params', 'data_path']));
  const version = text(textAt(value, ['version']));
  return {
    hosts: texts(textAt(value, ['params', 'hosts'])),
    ...(dataPath === undefined ? {} : { dataPath }),
    ...(version === undefined ? {} : { version }),
  };
}
