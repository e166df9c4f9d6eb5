import { componentTable } from './components.ts';
import { replaceHosts, replacePath } from './config-edit.ts';
import type { PlannedComponent } from './plan.ts';
import { YamlEditError, YamlSource } from './yaml-source.ts';

/** Secret of component-manage with one key per component, each value a YAML document. */
export const componentsSecretName = 'persist-component-manage-components';

export interface ComponentsEdit {
  /** All keys, edited or not. */
  data: Record<string, string>;
  /** Keys whose value changed. */
  changed: string[];
}

/**
 * Puts the planned hosts (and directories) into the recorded parameters of every component that component-manage records. `data` holds
 * the decoded values of the Secret. Repeating it changes nothing; throws YamlEditError when a record is not as expected.
 */
export function editComponentsSecret(
  data: Readonly<Record<string, string>>,
  components: readonly PlannedComponent[],
  direction: 'forth' | 'back',
): ComponentsEdit {
  const result: Record<string, string> = { ...data };
  const changed: string[] = [];
  for (const component of components) {
    const key = componentTable[component.kind].persist?.key;
    if (key === undefined) continue;
    const before = data[key];
    if (before === undefined) throw new YamlEditError(`component-manage has no record of it`, [key]);
    const after = editRecord(before, key, component, direction);
    if (after === before) continue;
    result[key] = after;
    changed.push(key);
  }
  return { data: result, changed };
}

function editRecord(text: string, key: string, component: PlannedComponent, direction: 'forth' | 'back'): string {
  const replicas = component.replicas.toSorted((a, b) => a.ordinal - b.ordinal);
  const old = { hosts: replicas.map((replica) => replica.from), path: component.dataPath };
  const next = { hosts: replicas.map((replica) => replica.to), path: component.newDataPath };
  const [from, to] = direction === 'forth' ? [old, next] : [next, old];
  const move = { from: from.hosts, to: to.hosts, pathFrom: from.path, pathTo: to.path };
  try {
    const source = new YamlSource(text);
    for (const place of source.values(['params', 'replica_count'])) {
      const count = YamlSource.textOf(place.node);
      if (count !== undefined && count !== '0' && count !== String(replicas.length)) {
        throw source.error(`is ${count}, but ${replicas.length} hosts are planned`, place.path, place.node);
      }
    }
    replaceHosts(source, ['params', 'hosts'], move);
    replacePath(source, ['params', 'data_path'], move);
    return source.toString();
  } catch (error) {
    if (error instanceof YamlEditError) throw new YamlEditError(`${key}: ${error.message}`);
    throw error;
  }
}
