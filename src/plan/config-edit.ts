import { isMap } from 'yaml';
import type { Pair, YAMLMap, YAMLSeq } from 'yaml';
import { componentRows, componentTable } from './components.ts';
import type { ComponentRow } from './components.ts';
import type { Plan, PlannedComponent } from './plan.ts';
import { readTexts, YamlEditError, YamlSource } from './yaml-source.ts';
import type { Place } from './yaml-source.ts';

export { YamlEditError } from './yaml-source.ts';

/** Name of the data key of the Secret `proton-cli-config`. */
export const configKey = 'ClusterConfiguration';

export const configStages = ['add-nodes', 'reinstall', 'reinstall-back', 'remove-nodes', 'remove-new-nodes'] as const;
export type ConfigEditStage = (typeof configStages)[number];

/** The part of a plan that edits need. */
export type ConfigEditPlan = Pick<Plan, 'mapping' | 'nodes' | 'containerRegistry'> & {
  /** New nodes that go off the list on the way back, before the others. */
  lost?: readonly string[];
};

export interface ConfigEdit {
  text: string;
  /** Names in `.nodes` after the edit, in order. */
  nodes: string[];
  /** False when the document already was as wanted. */
  changed: boolean;
}

/**
 * Edits the document of `proton-cli-config` for one stage of the migration. Repeating an edit changes nothing. Throws YamlEditError,
 * with the path, when the document does not have the expected content: then nothing may be applied.
 */
export function editConfig(
  text: string,
  stage: ConfigEditStage,
  plan: ConfigEditPlan,
  components: readonly PlannedComponent[],
): ConfigEdit {
  let source = new YamlSource(text);
  switch (stage) {
    case 'add-nodes':
      addNodes(source, plan);
      break;
    case 'reinstall':
      requireNodes(source, [...plan.nodes.remove, ...plan.nodes.add.map((node) => node.name)]);
      for (const component of components) moveComponent(source, component, 'forth');
      break;
    case 'reinstall-back':
      requireNodes(source, plan.nodes.remove);
      for (const component of components) moveComponent(source, component, 'back');
      if (plan.lost !== undefined) {
        source = new YamlSource(source.toString());
        removeNodes(source, plan.lost, predecessors(plan), plan);
      }
      break;
    case 'remove-nodes':
      removeNodes(source, plan.nodes.remove, new Map(plan.mapping.map(({ from, to }) => [from, to])), plan);
      break;
    case 'remove-new-nodes':
      removeNodes(
        source,
        plan.nodes.add.map((node) => node.name),
        predecessors(plan),
        plan,
      );
      break;
  }
  const edited = source.toString();
  const after = edited === source.text ? source : new YamlSource(edited);
  return { text: edited, nodes: nodeEntries(after).map((entry) => entry.name), changed: edited !== text };
}

/** Who takes over on the way back, by the new node. */
function predecessors({ mapping }: ConfigEditPlan): Map<string, string> {
  return new Map(mapping.map(({ from, to }) => [to, from]));
}

/** Names in `.nodes` of a configuration document. Throws YamlEditError when there are none: applying that is a fresh install. */
export function configNodes(text: string): string[] {
  return nodeEntries(new YamlSource(text)).map((entry) => entry.name);
}

/** The document as texts: every scalar as written, unquoted null as null. Values may be secret. */
export function readConfigTexts(text: string): Record<string, unknown> {
  const value = readTexts(text);
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

/**
 * Makes the output of `get conf` fit to be edited: takes away the line it prints before the document, and puts back
 * `component_management.nodeSelector`, which it drops, from the recorded document. Texts of both stay as they are otherwise.
 */
export function repairGetConf(output: string, recorded?: string): string {
  const text = output.replace(/^(?:GuessDeployConfig using namespace: [^\n]*\n)+/, '');
  if (recorded === undefined) return text;
  const kept = new YamlSource(recorded).values(['component_management', 'nodeSelector']).at(-1);
  if (kept === undefined || !isMap(kept.node) || kept.node.items.length === 0) return text;
  const source = new YamlSource(text);
  if (source.maps(['component_management', 'nodeSelector']).some(({ node }) => node.items.length > 0)) return text;
  const selector = Object.entries(stringsOf(kept.node)).map(
    ([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`,
  );
  const value = `{nodeSelector: {${selector.join(', ')}}}`;
  const section = source.values(['component_management']).at(-1);
  if (section === undefined) return `${text}${text.endsWith('\n') ? '' : '\n'}component_management: ${value}\n`;
  const dropped = isMap(section.node) && section.node.items.every((pair) => keyOf(pair) === 'nodeSelector');
  if (isMap(section.node) && !dropped) throw source.error('has unexpected content', section.path, section.node);
  source.replaceValue(section, value);
  return source.toString();
}

function stringsOf(map: YAMLMap): Record<string, string> {
  return Object.fromEntries(
    map.items.flatMap((pair) => {
      const value = YamlSource.textOf(pair.value);
      return value === undefined ? [] : [[keyOf(pair), value]];
    }),
  );
}

function keyOf(pair: Pair): string {
  return YamlSource.textOf(pair.key) ?? '';
}

function nodeEntries(source: YamlSource): { name: string; ip4?: string; index: number; list: Place<YAMLSeq> }[] {
  const list = only(source, source.lists(['nodes']), 'nodes');
  if (list === undefined || list.node.items.length === 0) {
    throw new YamlEditError('lists no node; applying such a configuration would be a fresh install', ['nodes']);
  }
  return list.node.items.map((item, index) => {
    const path = [...list.path, index];
    if (!isMap(item)) throw source.error('must be a map', path, item);
    const fields = stringsOf(item);
    const field = (name: string): string | undefined =>
      Object.entries(fields)
        .filter(([key]) => key.toLowerCase() === name)
        .at(-1)?.[1];
    const name = field('name');
    if (name === undefined) throw source.error('has no name', path, item);
    const ip4 = field('ip4');
    return { name, ...(ip4 === undefined ? {} : { ip4 }), index, list };
  });
}

/** The place if there is just one; the nodes' own lists must not stand twice, as readers differ on which one counts. */
function only<T>(source: YamlSource, places: Place<T>[], what: string): Place<T> | undefined {
  if (places.length > 1) throw source.error(`stands ${places.length} times`, [what], places[1]?.node);
  return places[0];
}

function requireNodes(source: YamlSource, names: readonly string[]): void {
  const present = new Set(nodeEntries(source).map((entry) => entry.name));
  const missing = names.filter((name) => !present.has(name));
  if (missing.length === 0) return;
  throw new YamlEditError(
    `does not list ${missing.join(', ')}: the recorded configuration is not the one after the nodes were added`,
    ['nodes'],
  );
}

function addNodes(source: YamlSource, plan: ConfigEditPlan): void {
  const present = nodeEntries(source);
  const list = present[0]?.list;
  if (list === undefined) return;
  const missing = plan.nodes.add.filter((node) => !present.some((entry) => entry.name === node.name));
  for (const node of plan.nodes.add) {
    const same = present.find((entry) => entry.name === node.name);
    if (same !== undefined && same.ip4 !== node.ip4) {
      throw source.error(
        `${node.name} has the address ${same.ip4 ?? '(none)'}, the plan says ${node.ip4}`,
        [...list.path, same.index],
        list.node.items[same.index],
      );
    }
    const taken = present.find((entry) => entry.ip4 === node.ip4 && entry.name !== node.name);
    if (taken !== undefined) {
      throw source.error(`${taken.name} already has the address ${node.ip4} of ${node.name}`, [
        ...list.path,
        taken.index,
      ]);
    }
  }
  source.append(
    list,
    missing.map((node) => ({ ip4: node.ip4, name: node.name })),
  );
  const masters = only(source, source.lists(['cs', 'master']), 'cs.master');
  const wanted = plan.nodes.add.filter((node) => node.controlPlane).map((node) => node.name);
  if (wanted.length === 0) return;
  if (masters === undefined) throw new YamlEditError('lists no master', ['cs', 'master']);
  const current = source.strings(masters);
  // The join keys are made on the first master, so an original one has to stay in front.
  if (wanted.includes(current[0] ?? '')) {
    throw source.error(`starts with the new node ${current[0] ?? ''}; an original master must be first`, masters.path);
  }
  source.append(
    masters,
    wanted.filter((name) => !current.includes(name)),
  );
}

function moveComponent(source: YamlSource, component: PlannedComponent, direction: 'forth' | 'back'): void {
  const row = componentTable[component.kind];
  const replicas = component.replicas.toSorted((a, b) => a.ordinal - b.ordinal);
  const move: HostMove = {
    from: replicas.map((replica) => (direction === 'forth' ? replica.from : replica.to)),
    to: replicas.map((replica) => (direction === 'forth' ? replica.to : replica.from)),
    pathFrom: direction === 'forth' ? component.dataPath : component.newDataPath,
    pathTo: direction === 'forth' ? component.newDataPath : component.dataPath,
  };
  if (source.maps([row.section]).length === 0) {
    throw new YamlEditError(`is missing, the plan moves ${component.kind}`, [row.section]);
  }
  replaceHosts(source, [row.section, 'hosts'], move);
  for (const path of row.dataPath) replacePath(source, [row.section, ...path], move);
  if (row.localVolumes !== undefined) moveLocalVolumes(source, row, row.localVolumes, move);
}

export interface HostMove {
  from: string[];
  to: string[];
  pathFrom: string;
  pathTo: string;
}

/** Replaces a list of hosts in place; each position must hold the old or already the new host. */
export function replaceHosts(source: YamlSource, path: readonly string[], move: HostMove): void {
  const places = source.lists(path);
  if (places.length === 0) throw new YamlEditError('lists no host', path);
  for (const place of places) {
    const current = source.strings(place);
    const fits =
      current.length === move.to.length &&
      current.every((host, index) => host === move.from[index] || host === move.to[index]);
    if (!fits) {
      throw source.error(
        `is [${current.join(', ')}], expected [${move.from.join(', ')}] in this order`,
        place.path,
        place.node,
      );
    }
    place.node.items.forEach((item, index) => {
      source.replaceScalar(item, [...place.path, index], move.to[index] ?? '');
    });
  }
}

/** Replaces a directory if it is to change; it must be the old or already the new one. */
export function replacePath(source: YamlSource, path: readonly string[], move: HostMove): void {
  const places = source.values(path);
  if (places.length === 0 && move.pathFrom !== move.pathTo) {
    throw new YamlEditError('is missing, the plan switches it', path);
  }
  for (const place of places) {
    const current = YamlSource.textOf(place.node);
    if (current === undefined && move.pathFrom === move.pathTo) continue;
    if (current !== move.pathFrom && current !== move.pathTo) {
      throw source.error(`is ${current ?? '(empty)'}, expected ${move.pathFrom}`, place.path, place.node);
    }
    source.replaceScalar(place.node, place.path, move.pathTo);
  }
}

function moveLocalVolumes(source: YamlSource, row: ComponentRow, path: readonly string[], move: HostMove): void {
  for (const volumes of source.maps([row.section, ...path])) {
    for (const pair of volumes.node.items) {
      const index = Number(keyOf(pair));
      const from = move.from[index];
      const to = move.to[index];
      const key = [...path, keyOf(pair)];
      if (from === undefined || to === undefined) {
        throw source.error('has no host at this position', [...volumes.path, keyOf(pair)], pair.key);
      }
      const single = { ...move, from: [from], to: [to] };
      for (const host of source.values([row.section, ...key, 'host'])) {
        const current = YamlSource.textOf(host.node);
        if (current !== from && current !== to) {
          throw source.error(`is ${current ?? '(empty)'}, expected ${from}`, host.path, host.node);
        }
        source.replaceScalar(host.node, host.path, to);
      }
      replacePath(source, [row.section, ...key, 'path'], single);
    }
  }
}

function removeNodes(
  source: YamlSource,
  leaving: readonly string[],
  successors: ReadonlyMap<string, string>,
  plan: ConfigEditPlan,
): void {
  const gone = new Set(leaving);
  const entries = nodeEntries(source);
  const staying = new Set(entries.filter((entry) => !gone.has(entry.name)).map((entry) => entry.name));
  const successor = (name: string, path: readonly (string | number)[]): string => {
    const next = successors.get(name);
    if (next === undefined || !staying.has(next)) {
      throw new YamlEditError(`names ${name}, which is to be removed and has no successor among the nodes`, path);
    }
    return next;
  };
  assertNoComponentOn(source, gone);
  rewriteRegistryHosts(source, gone, successor, plan);
  for (const path of [
    ['chrony', 'server'],
    ['eceph', 'hosts'],
  ]) {
    for (const place of source.lists(path)) replaceInPlace(source, place, gone, successor);
  }
  for (const section of ['cms', 'component_management']) {
    for (const place of source.values([section, 'nodeSelector', 'kubernetes.io/hostname'])) {
      const name = YamlSource.textOf(place.node);
      if (name !== undefined && gone.has(name)) {
        source.replaceScalar(place.node, place.path, successor(name, place.path));
      }
    }
  }
  const list = entries[0]?.list;
  if (list === undefined) return;
  source.remove(
    list,
    entries.filter((entry) => gone.has(entry.name)).map((entry) => entry.index),
  );
  const masters = only(source, source.lists(['cs', 'master']), 'cs.master');
  if (masters === undefined) return;
  source.remove(
    masters,
    source.strings(masters).flatMap((name, index) => (gone.has(name) ? [index] : [])),
  );
}

function assertNoComponentOn(source: YamlSource, gone: ReadonlySet<string>): void {
  for (const row of componentRows) {
    for (const place of source.lists([row.section, 'hosts'])) {
      const left = source.strings(place).filter((host) => gone.has(host));
      if (left.length > 0) {
        throw source.error(
          `still names ${left.join(', ')}; move the component before the node`,
          place.path,
          place.node,
        );
      }
    }
    if (row.localVolumes === undefined) continue;
    for (const volumes of source.maps([row.section, ...row.localVolumes])) {
      for (const pair of volumes.node.items) {
        for (const host of source.values([row.section, ...row.localVolumes, keyOf(pair), 'host'])) {
          const name = YamlSource.textOf(host.node);
          if (name !== undefined && gone.has(name)) {
            throw source.error(`still names ${name}; move the component before the node`, host.path, host.node);
          }
        }
      }
    }
  }
}

function replaceInPlace(
  source: YamlSource,
  place: Place<YAMLSeq>,
  gone: ReadonlySet<string>,
  successor: (name: string, path: readonly (string | number)[]) => string,
): void {
  const texts = source.strings(place);
  const drop: number[] = [];
  texts.forEach((name, index) => {
    if (!gone.has(name)) return;
    const next = successor(name, [...place.path, index]);
    // A list that already names the successor would name it twice.
    if (texts.includes(next)) drop.push(index);
    else source.replaceScalar(place.node.items[index], [...place.path, index], next);
  });
  source.remove(place, drop);
}

function rewriteRegistryHosts(
  source: YamlSource,
  gone: ReadonlySet<string>,
  successor: (name: string, path: readonly (string | number)[]) => string,
  plan: ConfigEditPlan,
): void {
  for (const place of source.lists(['cr', 'local', 'hosts'])) {
    const leaving = source.strings(place).filter((host) => gone.has(host));
    if (leaving.length > 0 && plan.containerRegistry === 'not-moved') {
      throw source.error(
        `names ${leaving.join(', ')}, which is to be removed, and the plan does not say how its images and charts move (containerRegistry)`,
        place.path,
        place.node,
      );
    }
    replaceInPlace(source, place, gone, successor);
  }
  const rename = (text: string, path: readonly (string | number)[]): string => {
    const match = /^(?<scheme>[a-z]+:\/\/)?(?<host>[^/:]+)(?<rest>(?::\d+)?(?:\/.*)?)$/.exec(text);
    const host = match?.groups?.['host'];
    if (host === undefined || !gone.has(host)) return text;
    return `${match?.groups?.['scheme'] ?? ''}${successor(host, path)}${match?.groups?.['rest'] ?? ''}`;
  };
  const runtime = ['cs', 'container_runtime'];
  for (const place of source.lists([...runtime, 'docker', 'insecure_registries'])) {
    const texts = source.strings(place);
    const drop: number[] = [];
    texts.forEach((text, index) => {
      const next = rename(text, [...place.path, index]);
      if (next !== text && texts.includes(next)) drop.push(index);
      else source.replaceScalar(place.node.items[index], [...place.path, index], next);
    });
    source.remove(place, drop);
  }
  for (const place of source.lists([...runtime, 'containerd', 'registries'])) {
    place.node.items.forEach((item, index) => {
      if (isMap(item)) rewriteRegistry(source, { path: [...place.path, index], node: item }, rename);
    });
  }
}

function rewriteRegistry(
  source: YamlSource,
  registry: Place<YAMLMap>,
  rename: (text: string, path: readonly (string | number)[]) => string,
): void {
  for (const pair of registry.node.items) {
    const key = keyOf(pair);
    const path = [...registry.path, key];
    const text = YamlSource.textOf(pair.value);
    if (/^(host|server)$/i.test(key) && text !== undefined) {
      source.replaceScalar(pair.value, path, rename(text, path));
    }
    if (!/^host_configs$/i.test(key) || !isMap(pair.value)) continue;
    for (const config of pair.value.items) {
      const name = keyOf(config);
      source.renameKey({ path, node: pair.value }, config, rename(name, [...path, name]));
    }
  }
}
