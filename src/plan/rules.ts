import type { z } from 'zod';
import { acceptsReplicas, componentNamespace, componentTable } from './components.ts';
import { isWithin, whyClosed } from './directories.ts';
import { componentSchema, gateNames, planSchema, transferSchema, hostSchema } from './plan.ts';
import type { End, Host, Plan, PlannedComponent, Transfer } from './plan.ts';
import { controlSuccessor, mastersStopped, packageService, spareOf } from './quorum.ts';

/*
 * What a plan must fulfil across its fields. The rules look at every part that is readable by itself, so that one wrong type does
 * not hide the other errors.
 */

export interface RuleError {
  path: (string | number)[];
  message: string;
}

export interface RuleContext {
  /** `cr.local.hosts` of the live configuration, when it is known. */
  registryHosts?: readonly string[];
}

interface Item<T> {
  index: number;
  value: T;
}

/** The readable parts of a plan. A list that has unreadable items is not `complete`. */
interface Parts {
  hosts: Item<Host>[];
  mapping: Item<Plan['mapping'][number]>[];
  add: Item<Plan['nodes']['add'][number]>[];
  remove: Item<string>[];
  components: Item<PlannedComponent>[];
  transfers: Item<Transfer>[];
  complete: { hosts: boolean; mapping: boolean; components: boolean; transfers: boolean; nodes: boolean };
  hostServices: Plan['hostServices'] | undefined;
  platform: Plan['platform'] | undefined;
  gates: Plan['gates'] | undefined;
  namespaces: Item<string>[];
  containerRegistry: Plan['containerRegistry'] | undefined;
  author: string | undefined;
  backup: Plan['backup'] | undefined;
  controlPlane: Plan['controlPlane'];
}

/** Every violation of a rule across fields in a plan as it was read, valid or not. */
export function checkRules(raw: Record<string, unknown>, context: RuleContext = {}): RuleError[] {
  const parts = partsOf(raw);
  return [
    ...hostRules(parts),
    ...mappingRules(parts),
    ...nodeRules(parts),
    ...componentRules(parts),
    ...transferRules(parts),
    ...pathRules(parts),
    ...hostServiceRules(parts),
    ...gateRules(parts),
    ...applicationRules(parts),
    ...registryRules(parts, context),
    ...controlPlaneRules(parts),
  ];
}

function readList<T>(raw: unknown, schema: z.ZodType<T>): { items: Item<T>[]; complete: boolean } {
  if (!Array.isArray(raw)) return { items: [], complete: false };
  const items = raw.flatMap((entry: unknown, index) => {
    const parsed = schema.safeParse(entry);
    return parsed.success ? [{ index, value: parsed.data }] : [];
  });
  return { items, complete: items.length === raw.length };
}

function partsOf(raw: Record<string, unknown>): Parts {
  const { shape } = planSchema;
  const one = <T>(name: string, schema: z.ZodType<T>): T | undefined => schema.safeParse(raw[name]).data;
  const field = (name: string, key: string): unknown => (raw[name] as Record<string, unknown> | undefined)?.[key];
  const hosts = readList(raw['hosts'], hostSchema);
  const mapping = readList(raw['mapping'], shape.mapping.element);
  const components = readList(raw['components'], componentSchema);
  const transfers = readList(raw['transfers'], transferSchema);
  const add = readList(field('nodes', 'add'), shape.nodes.shape.add.element);
  const remove = readList(field('nodes', 'remove'), shape.nodes.shape.remove.element);
  return {
    hosts: hosts.items,
    mapping: mapping.items,
    add: add.items,
    remove: remove.items,
    components: components.items,
    transfers: transfers.items,
    complete: {
      hosts: hosts.complete,
      mapping: mapping.complete,
      components: components.complete,
      transfers: transfers.complete,
      nodes: add.complete && remove.complete,
    },
    hostServices: one('hostServices', shape.hostServices),
    platform: one('platform', shape.platform),
    gates: one('gates', shape.gates),
    namespaces: readList(field('applications', 'namespaces'), shape.applications.shape.namespaces.element).items,
    containerRegistry: one('containerRegistry', shape.containerRegistry),
    author: one('author', shape.author),
    backup: one('backup', shape.backup),
    controlPlane: one('controlPlane', shape.controlPlane),
  };
}

/** One error for every item whose key an earlier one has. */
function duplicates<T>(
  items: readonly Item<T>[],
  keyOf: (value: T) => string,
  path: (item: Item<T>) => (string | number)[],
  message: (value: T, first: number) => string,
): RuleError[] {
  const first = new Map<string, number>();
  return items.flatMap((item) => {
    const key = keyOf(item.value);
    const before = first.get(key);
    if (before !== undefined) return [{ path: path(item), message: message(item.value, before) }];
    first.set(key, item.index);
    return [];
  });
}

function hostRules({ hosts }: Parts): RuleError[] {
  return [
    ...duplicates(
      hosts,
      (host) => host.name,
      ({ index }) => ['hosts', index, 'name'],
      (host, first) => `${host.name} stands already in hosts[${first}]`,
    ),
    ...duplicates(
      hosts,
      (host) => `${host.address}:${host.port}`,
      ({ index }) => ['hosts', index, 'address'],
      (host, first) => `${host.address} port ${host.port} is already the address of hosts[${first}]`,
    ),
  ];
}

function unknownHost(parts: Parts, name: string, path: (string | number)[]): RuleError[] {
  if (!parts.complete.hosts || parts.hosts.some((host) => host.value.name === name)) return [];
  return [{ path, message: `unknown node ${name}: hosts does not list it` }];
}

function mappingRules(parts: Parts): RuleError[] {
  const { mapping, hosts } = parts;
  const sources = new Set(mapping.map(({ value }) => value.from));
  const errors = [
    ...duplicates(
      mapping,
      (pair) => pair.from,
      ({ index }) => ['mapping', index, 'from'],
      (pair, first) => `not a bijection: ${pair.from} is already replaced in mapping[${first}]`,
    ),
    ...duplicates(
      mapping,
      (pair) => pair.to,
      ({ index }) => ['mapping', index, 'to'],
      (pair, first) => `not a bijection: ${pair.to} already replaces another node in mapping[${first}]`,
    ),
  ];
  for (const { index, value } of mapping) {
    errors.push(...unknownHost(parts, value.from, ['mapping', index, 'from']));
    errors.push(...unknownHost(parts, value.to, ['mapping', index, 'to']));
    if (sources.has(value.to)) {
      errors.push({
        path: ['mapping', index, 'to'],
        message:
          value.from === value.to
            ? `${value.to} cannot replace itself`
            : `${value.to} is itself replaced by another node`,
      });
    }
    for (const [side, role, opposite] of [
      ['from', 'old', 'new'],
      ['to', 'new', 'old'],
    ] as const) {
      const host = hosts.find((entry) => entry.value.name === value[side]);
      if (host?.value.role === opposite) {
        errors.push({
          path: ['hosts', host.index, 'role'],
          message: `${host.value.name} is an ${role} node in mapping[${index}], not "${opposite}"`.replace(
            'an new',
            'a new',
          ),
        });
      }
    }
  }
  return errors;
}

function nodeRules(parts: Parts): RuleError[] {
  const { add, remove, mapping, platform } = parts;
  const from = new Set(mapping.map(({ value }) => value.from));
  const to = new Set(mapping.map(({ value }) => value.to));
  const added = new Set(add.map(({ value }) => value.name));
  const errors = [
    ...duplicates(
      add,
      (node) => node.name,
      ({ index }) => ['nodes', 'add', index, 'name'],
      (node, first) => `${node.name} is already added in nodes.add[${first}]`,
    ),
    ...duplicates(
      add,
      (node) => node.ip4,
      ({ index }) => ['nodes', 'add', index, 'ip4'],
      (node, first) => `${node.ip4} is already the address of nodes.add[${first}]`,
    ),
    ...duplicates(
      remove,
      (name) => name,
      ({ index }) => ['nodes', 'remove', index],
      (name, first) => `${name} is already removed in nodes.remove[${first}]`,
    ),
  ];
  for (const { index, value } of add) {
    errors.push(...unknownHost(parts, value.name, ['nodes', 'add', index, 'name']));
    if (parts.complete.mapping && !to.has(value.name)) {
      errors.push({ path: ['nodes', 'add', index, 'name'], message: `${value.name} replaces no node in the mapping` });
    }
  }
  for (const { index, value } of remove) {
    errors.push(...unknownHost(parts, value, ['nodes', 'remove', index]));
    if (added.has(value)) {
      errors.push({ path: ['nodes', 'remove', index], message: `${value} is added by this plan as well` });
    }
    if (parts.complete.mapping && !from.has(value)) {
      errors.push({ path: ['nodes', 'remove', index], message: `${value} has no successor in the mapping` });
    }
  }
  if (platform === undefined) return errors;
  errors.push(...unknownHost(parts, platform.controlHost, ['platform', 'controlHost']));
  if (added.has(platform.controlHost)) {
    errors.push({
      path: ['platform', 'controlHost'],
      message: `${platform.controlHost} is a new node; proton-cli runs on an original control-plane node`,
    });
  }
  return errors;
}

function componentRules(parts: Parts): RuleError[] {
  const { components, mapping, platform } = parts;
  const pairs = new Map(mapping.map(({ value }) => [value.from, value.to]));
  const errors = duplicates(
    components,
    (component) => component.kind,
    ({ index }) => ['components', index, 'kind'],
    (component, first) => `${component.kind} stands already in components[${first}]`,
  );
  for (const { index, value } of components) {
    const at = ['components', index];
    const row = componentTable[value.kind];
    if (platform !== undefined) {
      const namespace = componentNamespace(row, { resourceNamespace: platform.resourceNamespace });
      if (namespace !== value.namespace) {
        errors.push({ path: [...at, 'namespace'], message: `${value.kind} runs in the namespace ${namespace}` });
      }
    }
    if (!acceptsReplicas(row, value.replicas.length)) {
      const allowed = row.replicaCounts === 'any' ? 'one or more' : row.replicaCounts.join(' or ');
      errors.push({
        path: [...at, 'replicas'],
        message: `the platform takes ${allowed} hosts for ${value.kind}, not ${value.replicas.length}`,
      });
    }
    const replicas = value.replicas.map((replica, position) => ({ index: position, value: replica }));
    for (const [key, what] of [
      ['ordinal', 'ordinal'],
      ['from', 'old host'],
      ['to', 'new host'],
      ['pod', 'pod'],
      ['pvc', 'claim'],
      ['pv', 'volume'],
    ] as const) {
      errors.push(
        ...duplicates(
          replicas,
          (replica) => String(replica[key]),
          (item) => [...at, 'replicas', item.index, key],
          (replica, first) => `${what} ${replica[key]} is already that of replicas[${first}]; they must be unique`,
        ),
      );
    }
    for (const { index: position, value: replica } of replicas) {
      const path = [...at, 'replicas', position];
      errors.push(...unknownHost(parts, replica.from, [...path, 'from']));
      errors.push(...unknownHost(parts, replica.to, [...path, 'to']));
      if (replica.ordinal >= replicas.length) {
        errors.push({
          path: [...path, 'ordinal'],
          message: `ordinals of ${replicas.length} replicas are 0 to ${replicas.length - 1}`,
        });
      }
      const successor = pairs.get(replica.from) ?? replica.from;
      if (parts.complete.mapping && replica.to !== successor) {
        errors.push({
          path: [...path, 'to'],
          message: `the mapping replaces ${replica.from} by ${successor}, not by ${replica.to}`,
        });
      }
    }
  }
  return errors;
}

const sameEnd = (a: End, b: End): boolean => a.host === b.host && a.path === b.path;
const overlap = (a: End, b: End): boolean =>
  a.host === b.host && (isWithin(a.path, b.path) || isWithin(b.path, a.path));

/** Services whose directories belong to the container registry: the only host data that may change its node. */
const registryService = /^(proton-)?cr([-_].*)?$/;

function transferRules(parts: Parts): RuleError[] {
  const { transfers, components } = parts;
  const errors = duplicates(
    transfers,
    (transfer) => transfer.id,
    ({ index }) => ['transfers', index, 'id'],
    (transfer, first) => `${transfer.id} is already the id of transfers[${first}]`,
  );
  const covered = new Map<string, number>();
  for (const { index, value } of transfers) {
    const at = ['transfers', index];
    for (const side of ['source', 'destination'] as const) {
      errors.push(...unknownHost(parts, value[side].host, [...at, side, 'host']));
    }
    if (value.subject.type === 'host-service') {
      errors.push(...hostTransferRules(parts, value, at));
      continue;
    }
    const { component: kind, ordinal } = value.subject;
    const component = components.find((entry) => entry.value.kind === kind)?.value;
    if (component === undefined) {
      if (parts.complete.components) {
        errors.push({ path: [...at, 'subject', 'component'], message: `components does not list ${kind}` });
      }
      continue;
    }
    const replica = component.replicas.find((entry) => entry.ordinal === ordinal);
    if (replica === undefined) {
      errors.push({ path: [...at, 'subject', 'ordinal'], message: `${kind} has no replica ${ordinal}` });
      continue;
    }
    const key = `${kind}-${ordinal}`;
    const before = covered.get(key);
    if (before !== undefined) {
      errors.push({ path: [...at, 'subject'], message: `${key} is already moved by transfers[${before}]` });
    }
    covered.set(key, index);
    const expected = {
      source: { host: replica.from, path: component.dataPath },
      destination: { host: replica.to, path: component.newDataPath },
    };
    for (const side of ['source', 'destination'] as const) {
      for (const part of ['host', 'path'] as const) {
        if (value[side][part] === expected[side][part]) continue;
        errors.push({
          path: [...at, side, part],
          message: `is ${value[side][part]}, but components says ${expected[side][part]} for ${key}`,
        });
      }
    }
  }
  if (!parts.complete.transfers) return errors;
  for (const { index, value } of components) {
    value.replicas.forEach((replica, position) => {
      const stays = replica.from === replica.to && value.dataPath === value.newDataPath;
      if (stays || covered.has(`${value.kind}-${replica.ordinal}`)) return;
      errors.push({
        path: ['components', index, 'replicas', position],
        message: `no transfer moves the data of ${value.kind}-${replica.ordinal}`,
      });
    });
  }
  return errors;
}

function hostTransferRules(parts: Parts, transfer: Transfer, at: (string | number)[]): RuleError[] {
  if (transfer.subject.type !== 'host-service') return [];
  const { service } = transfer.subject;
  // Nothing writes into the package, and nothing has to stop for it.
  if (service === packageService) return packageRules(parts, transfer, at);
  const errors: RuleError[] = [];
  if (transfer.source.host !== transfer.destination.host) {
    const isRegistry = registryService.test(service);
    if (!isRegistry) {
      errors.push({
        path: [...at, 'destination', 'host'],
        message: `host services stay on their node: ${service} cannot move from ${transfer.source.host} to ${transfer.destination.host}`,
      });
    } else if (parts.containerRegistry !== undefined && parts.containerRegistry !== 'copy-data') {
      errors.push({
        path: ['containerRegistry'],
        message: `transfer ${transfer.id} copies registry data to another node, which needs "copy-data"`,
      });
    }
  }
  const stopped = parts.hostServices?.hosts;
  if (stopped !== undefined && !stopped.includes(transfer.source.host)) {
    errors.push({
      path: ['hostServices', 'hosts'],
      message: `does not list ${transfer.source.host}, whose ${service} directory moves (${transfer.id})`,
    });
  }
  return errors;
}

function packageRules(parts: Parts, transfer: Transfer, at: (string | number)[]): RuleError[] {
  const { platform, mapping, add, remove } = parts;
  if (platform === undefined) return [];
  const successor = controlSuccessor({
    nodes: { add: add.map(({ value }) => value), remove: remove.map(({ value }) => value) },
    mapping: mapping.map(({ value }) => value),
    platform,
  });
  const expected: Pick<Transfer, 'source' | 'destination'> = {
    source: { host: platform.controlHost, path: platform.packageDirectory },
    destination: { host: successor ?? '', path: platform.packageDirectory },
  };
  return (['source', 'destination'] as const)
    .filter((side) => !sameEnd(transfer[side], expected[side]))
    .map((side) => ({
      path: [...at, side],
      message:
        successor === undefined
          ? `no master takes over from ${platform.controlHost}: its package does not move`
          : `must be ${expected[side].host}:${expected[side].path}, where proton-cli works ${side === 'source' ? 'now' : 'afterwards'}`,
    }));
}

function controlPlaneRules(parts: Parts): RuleError[] {
  const { controlPlane, platform, add, remove, hostServices, complete } = parts;
  if (controlPlane === undefined) return [];
  const { masters } = controlPlane;
  const items = masters.map((value, index) => ({ index, value }));
  const errors = [
    ...duplicates(
      items,
      (name) => name,
      ({ index }) => ['controlPlane', 'masters', index],
      (name, first) => `${name} stands already in masters[${first}]`,
    ),
    ...items.flatMap(({ index, value }) => unknownHost(parts, value, ['controlPlane', 'masters', index])),
  ];
  const joining = add.filter(({ value }) => value.controlPlane).map(({ value }) => value.name);
  for (const { index, value } of items) {
    if (joining.includes(value)) {
      errors.push({ path: ['controlPlane', 'masters', index], message: `${value} is only added by this plan` });
    }
  }
  if (platform !== undefined && !masters.includes(platform.controlHost)) {
    errors.push({
      path: ['platform', 'controlHost'],
      message: `${platform.controlHost} is none of the masters ${masters.join(', ')}; proton-cli runs on one of them`,
    });
  }
  const leaving = new Set(remove.map(({ value }) => value));
  const staying = [...masters, ...joining].filter((name) => !leaving.has(name));
  if (complete.nodes && staying.length === 0) {
    errors.push({ path: ['nodes', 'remove'], message: 'no master would be left' });
  }
  const all = [...masters, ...joining];
  const stopped = hostServices === undefined ? [] : mastersStopped(all, hostServices);
  if (stopped.length > spareOf(all.length)) {
    errors.push({
      path: ['hostServices', 'units'],
      message: `stops kubelet or the container runtime on ${stopped.join(', ')} at once: of ${all.length} members of etcd only ${spareOf(all.length)} may be away; name only the units whose directories move`,
    });
  }
  return errors;
}

function pathRules({ transfers, backup }: Parts): RuleError[] {
  const errors: RuleError[] = [];
  for (const { index, value } of transfers) {
    const path = ['transfers', index, 'destination', 'path'];
    const { source, destination } = value;
    if (sameEnd(source, destination)) {
      errors.push({ path, message: `source and destination are the same directory ${source.host}:${source.path}` });
    } else if (overlap(source, destination)) {
      const inside = isWithin(destination.path, source.path);
      errors.push({
        path,
        message: inside
          ? `destination lies inside the source ${source.host}:${source.path}`
          : `source ${source.host}:${source.path} lies inside the destination`,
      });
    }
    const closed = whyClosed(destination.path);
    if (closed !== undefined) errors.push({ path, message: closed });
    if (backup !== undefined && isWithin(backup.directory, destination.path)) {
      errors.push({ path: ['backup', 'directory'], message: `lies inside the destination of ${value.id}` });
    }
    for (const other of transfers) {
      if (other.index === index) continue;
      if (other.index < index && overlap(destination, other.value.destination)) {
        errors.push({
          path,
          message: `${destination.host}:${destination.path} overlaps the destination of transfers[${other.index}] (${other.value.id})`,
        });
      }
      if (overlap(destination, other.value.source)) {
        errors.push({
          path,
          message: `${destination.host}:${destination.path} overlaps the source of transfers[${other.index}] (${other.value.id})`,
        });
      }
    }
  }
  return errors;
}

function hostServiceRules(parts: Parts): RuleError[] {
  const { hostServices } = parts;
  if (hostServices === undefined) return [];
  const hosts = hostServices.hosts.map((value, index) => ({ index, value }));
  return [
    ...duplicates(
      hosts,
      (name) => name,
      ({ index }) => ['hostServices', 'hosts', index],
      (name, first) => `${name} stands already in hosts[${first}]`,
    ),
    ...hosts.flatMap(({ index, value }) => unknownHost(parts, value, ['hostServices', 'hosts', index])),
  ];
}

function gateRules({ gates, author }: Parts): RuleError[] {
  if (gates === undefined) return [];
  return gateNames.flatMap((name) => {
    const gate = gates[name];
    const approvers = gate.approvers.map((value, index) => ({ index, value }));
    const errors = duplicates(
      approvers,
      (approver) => approver,
      ({ index }) => ['gates', name, 'approvers', index],
      (approver, first) => `${approver} stands already in approvers[${first}]`,
    );
    if (approvers.length === 0) return errors;
    const able = new Set(gate.approvers.filter((approver) => gate.selfApproval || approver !== author));
    if (able.size < gate.required) {
      const without = able.size < new Set(gate.approvers).size ? ` without the author ${author ?? ''}` : '';
      errors.push({
        path: ['gates', name, 'required'],
        message: `needs ${gate.required} approvals, but only ${able.size} may approve${without}: the gate could never open`,
      });
    }
    return errors;
  });
}

function applicationRules({ namespaces, platform }: Parts): RuleError[] {
  const errors = duplicates(
    namespaces,
    (name) => name,
    ({ index }) => ['applications', 'namespaces', index],
    (name, first) => `${name} stands already in namespaces[${first}]`,
  );
  for (const { index, value } of namespaces) {
    if (!/^kube-/.test(value) && value !== platform?.resourceNamespace) continue;
    errors.push({
      path: ['applications', 'namespaces', index],
      message: `${value} holds the platform itself and cannot be stopped as an application`,
    });
  }
  return errors;
}

function registryRules(parts: Parts, { registryHosts = [] }: RuleContext): RuleError[] {
  const { containerRegistry, remove, transfers } = parts;
  const leaving = registryHosts.filter((name) => remove.some((entry) => entry.value === name));
  if (leaving.length > 0 && containerRegistry === 'not-moved') {
    return [
      {
        path: ['containerRegistry'],
        message: `cr.local.hosts names ${leaving.join(', ')}, which this plan removes: say how images and charts move ("re-push" or "copy-data")`,
      },
    ];
  }
  const copies = transfers.some(
    ({ value }) =>
      value.subject.type === 'host-service' &&
      registryService.test(value.subject.service) &&
      value.source.host !== value.destination.host,
  );
  if (containerRegistry === 'copy-data' && parts.complete.transfers && !copies) {
    return [
      {
        path: ['containerRegistry'],
        message: 'is "copy-data", but no transfer copies the registry\'s data (service "cr-data")',
      },
    ];
  }
  return [];
}
