/** What component-manage answers to a request for a component: is it readable, are its dependencies there, may it change so. */
import { hostsOf, number, Panic, text, texts } from './access.ts';
import { paramsTypes, type ComponentType } from './component-schema.ts';
import { decode, encode, TypeMismatch, type Fields } from './schema.ts';
import { rawOf } from './yaml.ts';

export interface ComponentCase {
  type: string;
  /** Name of the instance: the key of its record. */
  component: string;
  method: 'POST' | 'PUT';
  /** Recorded parameters. */
  old: Record<string, unknown> | null;
  /** Requested parameters. */
  new: Record<string, unknown> | null;
  dependencies?: Record<string, string> | null | undefined;
  /** Other recorded instances, by name; another type than the name says in the form `name (but of type redis)`. */
  other_components?: readonly string[] | null | undefined;
}

export interface ComponentAnswer {
  code: number;
  message: string;
  cause: string;
}

export interface ComponentVerdict {
  verdict: 'accepted' | 'rejected';
  stage: 'bind' | 'dependency' | 'check' | 'panic';
  error: string;
  /** Null when accepted, and the body of a request that crashed the handler. */
  http_status: number | null;
  http_body: ComponentAnswer | null;
  completed_params?: Record<string, unknown>;
}

class Refused extends Error {
  readonly stage: 'bind' | 'dependency' | 'check';
  readonly status: 400 | 500;
  readonly summary: string;
  constructor(stage: 'bind' | 'dependency' | 'check', summary: string, cause: string, status: 400 | 500 = 400) {
    super(cause);
    this.stage = stage;
    this.summary = summary;
    this.status = status;
  }
}

/** A rule complains or not; the first complaint counts. */
type Check = (old: Fields, params: Fields) => string | undefined;

interface Rules {
  /** As the structure that is read is called. */
  name: string;
  /** The summary of an unreadable request. */
  unreadable: string;
  /** Fields that have to be there, in the platform's spelling. */
  required: Readonly<Record<string, string>>;
  dependency?: { key: string; type: ComponentType };
  /** Number of replicas follows the hosts. */
  countsHosts: boolean;
  /** Rules for a request by itself. */
  checks: readonly ((params: Fields) => string | undefined)[];
  /** Rules against the record, in their order. */
  updates: readonly Check[];
  /** Fields in which the record wins, whatever is asked. */
  recorded: readonly string[];
  administratorSecret?: string;
  complete?: (params: Fields) => void;
}

function unchanged(key: string, why: string): Check {
  return (old, params) => (text(old, key) === text(params, key) ? undefined : why);
}

const namespaceKept: Check = (old, params) =>
  (text(old, 'namespace') || 'resource') === text(params, 'namespace') ? undefined : 'namespace is immutable';

function replicas(params: Fields): number {
  return hostsOf(params).length || number(params, 'replica_count');
}

const notReduced: Check = (old, params) =>
  hostsOf(params).length < hostsOf(old).length ? 'hosts can not be reduced' : undefined;

const replicasNotReduced: Check = (old, params) =>
  replicas(params) < replicas(old) ? 'Real replicaCount can not be reduced' : undefined;

/** These look at the recorded number, even if it has nothing to do with the recorded hosts. */
const countNotReduced: Check = (old, params) =>
  number(params, 'replica_count') < number(old, 'replica_count') ? 'Real replicaCount can not be reduced' : undefined;

const hostsKept: Check = (old, params) => {
  const hosts = hostsOf(params);
  const index = hostsOf(old).findIndex((host, position) => hosts[position] !== host);
  if (index < 0) return undefined;
  return `hosts can not be change to ${hosts[index] ?? ''} from ${hostsOf(old)[index] ?? ''}`;
};

/** Takes as many hosts as are recorded, there or not. */
function hostsInFront(type: string): Check {
  return (old, params) => {
    const [before, after] = [hostsOf(old), hostsOf(params)];
    if (after.length < before.length) {
      throw new Panic(
        `panic: runtime error: slice bounds out of range [:${before.length}] with capacity ${after.length}`,
      );
    }
    const index = before.findIndex((host, position) => after[position] !== host);
    if (index < 0) return undefined;
    const difference = `slice[${index}]: ${after[index] ?? ''} != ${before[index] ?? ''}`;
    return `previous hosts must be in front of new hosts when expanding ${type} deployment: [${after.join(' ')}], ${difference}`;
  };
}

const growing: readonly Check[] = [
  namespaceKept,
  unchanged('storageClassName', 'storageClassName can not be changed'),
  unchanged('storage_capacity', 'storageCapacity can not be changed'),
  unchanged('data_path', 'data_path can not be changed'),
  notReduced,
  hostsKept,
  countNotReduced,
];

function notBoth(params: Fields): string | undefined {
  if (text(params, 'storageClassName') === '') return undefined;
  if (hostsOf(params).length > 0) return '.storageClassName and .hosts cannot be set at the same time';
  return text(params, 'data_path') === ''
    ? undefined
    : '.storageClassName and .data_path cannot be set at the same time';
}

function oneOrThree(why: string): (params: Fields) => string | undefined {
  return (params) => ([0, 1, 3].includes(new Set(hostsOf(params)).size) ? undefined : why);
}

function noRepeats(why: string): (params: Fields) => string | undefined {
  return (params) => (new Set(hostsOf(params)).size < hostsOf(params).length ? why : undefined);
}

const modes = ['hot', 'master', 'warm'];

function knownMode(params: Fields): string | undefined {
  const mode = text(params, 'mode');
  if (modes.includes(mode)) return undefined;
  return `opensearch does not support the mode:${mode}, opensearch supports:[${modes.join(' ')}]`;
}

const etcdHosts: Check = (old, params) => {
  const [before, after] = [texts(old, 'hosts'), texts(params, 'hosts')];
  if (before === undefined || after === undefined)
    return replicas(old) === replicas(params) ? undefined : 'replica count is immutable';
  const isSame = before.length === after.length && before.every((host, index) => host === after[index]);
  return isSame ? undefined : 'hosts are immutable';
};

const capacityKept = unchanged('storage_capacity', 'storageCapacity can not be changed');

function account(database: string): Readonly<Record<string, string>> {
  return { username: `Component${database}.Params.Username`, password: `Component${database}.Params.Password` };
}

const none = { unreadable: 'param is invalid', required: {}, countsHosts: false, checks: [], recorded: [] } as const;

const rules: Readonly<Record<ComponentType, Rules>> = {
  zookeeper: { ...none, name: 'Zookeeper', unreadable: 'params is invalid', countsHosts: true, updates: growing },
  kafka: {
    ...none,
    name: 'Kafka',
    dependency: { key: 'Zookeeper', type: 'zookeeper' },
    countsHosts: true,
    updates: growing,
  },
  opensearch: {
    ...none,
    name: 'Opensearch',
    checks: [notBoth, noRepeats('opensearch host list contains duplicated entries'), knownMode],
    updates: [
      namespaceKept,
      unchanged('data_path', 'opensearch data_path is immutable'),
      unchanged('storageClassName', 'opensearch storageClassName is immutable'),
      capacityKept,
      unchanged('mode', 'opensearch mode is immutable'),
      replicasNotReduced,
      hostsInFront('opensearch'),
    ],
    complete: (params) => {
      params['settings'] = {
        'action.auto_create_index': '-company*,-ar-*,-dip-*,-adp-*,+*',
        'bootstrap.memory_lock': false,
        ...(params['settings'] as Fields | undefined),
      };
    },
  },
  redis: {
    ...none,
    name: 'Redis',
    checks: [
      notBoth,
      oneOrThree('redis only support 1 or 3 host'),
      noRepeats('redis host list contains duplicated items'),
    ],
    updates: [
      namespaceKept,
      unchanged('data_path', 'redis data path is immutable'),
      unchanged('storageClassName', 'redis storage class name is immutable'),
      capacityKept,
      unchanged('admin_user', 'redis Admin_user is immutable'),
      unchanged('admin_passwd', 'redis Admin_passwd is immutable'),
      replicasNotReduced,
      hostsInFront('redis'),
    ],
  },
  etcd: {
    ...none,
    name: 'ETCD',
    checks: [notBoth],
    updates: [
      namespaceKept,
      unchanged('data_path', 'data path is immutable'),
      unchanged('storageClassName', 'storage class name is immutable'),
      capacityKept,
      etcdHosts,
    ],
  },
  policyengine: {
    ...none,
    name: 'PolicyEngine',
    dependency: { key: 'ETCD', type: 'etcd' },
    checks: [
      notBoth,
      oneOrThree('policy engine only support 1 or 3 hosts'),
      noRepeats('policy engine host list contains duplicated items'),
    ],
    updates: [
      namespaceKept,
      unchanged('data_path', 'data path is immutable'),
      unchanged('storageClassName', 'storage class name is immutable'),
      replicasNotReduced,
      hostsInFront('policyengine'),
    ],
  },
  mariadb: { ...none, name: 'MariaDB', required: account('MariaDB'), countsHosts: true, ...operated('mariadb') },
  mongodb: { ...none, name: 'MongoDB', required: account('MongoDB'), countsHosts: true, ...operated('mongodb') },
  nebula: {
    ...none,
    name: 'Nebula',
    required: { hosts: 'ComponentNebula.Params.Hosts', data_path: 'ComponentNebula.Params.DataPath' },
    updates: [unchanged('data_path', 'data_path can not be changed'), notReduced, hostsKept],
    recorded: ['namespace', 'admin_secret_name', 'password'],
    administratorSecret: 'nebula-admin-account',
  },
};

function operated(type: string): Pick<Rules, 'updates' | 'recorded' | 'administratorSecret'> {
  return {
    updates: [
      ...growing.slice(1),
      unchanged('admin_user', 'admin username can not be changed'),
      unchanged('admin_passwd', 'admin password can not be changed'),
    ],
    recorded: ['namespace', 'admin_secret_name'],
    administratorSecret: `${type}-admin-account`,
  };
}

function missing(path: string): string {
  const field = path.replace(/^.*\./, '');
  return `Key: '${path}' Error:Field validation for '${field}' failed on the 'required' tag`;
}

function read(input: ComponentCase, type: ComponentType): Fields {
  const { name, unreadable, required, dependency } = rules[type];
  const bind = (cause: string): Refused => new Refused('bind', unreadable, cause);
  const read = (): Fields | undefined => {
    try {
      return decode(paramsTypes[type], rawOf(input.new), { from: 'json', place: { owner: '', path: ['params'] } });
    } catch (error) {
      if (error instanceof TypeMismatch) throw bind(error.message);
      throw error;
    }
  };
  const params = read();
  const absent = params === undefined ? [missing(`Component${name}.Params`)] : [];
  if (params !== undefined) {
    for (const [key, path] of Object.entries(required))
      if (params[key] === undefined || params[key] === '') absent.push(missing(path));
  }
  if (dependency !== undefined && (input.dependencies?.[dependency.type] ?? '') === '')
    absent.push(missing(`Component${name}.Dependencies.${dependency.key}`));
  if (params === undefined || absent.length > 0) throw bind(absent.join('\n'));
  return params;
}

interface Other {
  name: string;
  type: string;
}

function otherOf(written: string): Other {
  const [, name = written, type] = /^(\S+) \(but of type (\S+)\)$/.exec(written) ?? [];
  const guessed = name.replace(/^proton-/, '').replace(/-\d+$/, '');
  return { name, type: type ?? (guessed === 'policy-engine' ? 'policyengine' : guessed) };
}

function checkDependency(input: ComponentCase, type: ComponentType): void {
  const { dependency } = rules[type];
  if (dependency === undefined) return;
  const wanted = input.dependencies?.[dependency.type];
  const others = (input.other_components ?? []).map(otherOf);
  const found = others.find(({ name }) => name === wanted);
  if (found === undefined) {
    const cause = `dependencies ${dependency.type} component not found`;
    throw new Refused('dependency', 'server produce internal error', cause, 500);
  }
  if (input.method === 'PUT') return;
  if (found.type !== dependency.type) {
    const cause = `component type is not ${dependency.type}`;
    throw new Refused('dependency', `provided ${dependency.type} is invalid`, cause);
  }
  if (others.some((other) => other.type === type && other.name !== input.component)) {
    throw new Refused('dependency', `please provide valid ${dependency.type}`, `${dependency.type} is already used`);
  }
}

function check(input: ComponentCase, type: ComponentType, params: Fields): Fields {
  const { countsHosts, checks, updates, recorded, administratorSecret, complete } = rules[type];
  const completed: Fields = { ...params, namespace: text(params, 'namespace') || 'resource' };
  if (countsHosts && hostsOf(params).length > 0) completed['replica_count'] = hostsOf(params).length;
  const refuse = (why: string | undefined): void => {
    if (why !== undefined) throw new Refused('check', `check ${type} params error`, why);
  };
  for (const rule of checks) refuse(rule(completed));
  complete?.(completed);
  if (input.method === 'POST') {
    if (administratorSecret !== undefined && text(params, 'admin_secret_name') === '')
      completed['admin_secret_name'] = `${administratorSecret}-${input.component}`;
    return completed;
  }
  const old = decode(paramsTypes[type], rawOf(input.old)) ?? {};
  for (const rule of updates) refuse(rule(old, completed));
  for (const key of recorded) completed[key] = text(old, key);
  return completed;
}

function isKnown(type: string): type is ComponentType {
  return Object.hasOwn(rules, type);
}

export function judgeComponent(input: ComponentCase): ComponentVerdict {
  const { type } = input;
  if (!isKnown(type)) throw new Error(`component-manage has no type ${type}`);
  try {
    const params = read(input, type);
    checkDependency(input, type);
    const completed = encode(paramsTypes[type], check(input, type, params)) as Record<string, unknown>;
    const answer = { error: '', http_status: null, http_body: null };
    return { verdict: 'accepted', stage: 'check', ...answer, completed_params: completed };
  } catch (error) {
    if (error instanceof Panic)
      return { verdict: 'rejected', stage: 'panic', error: error.message, http_status: 500, http_body: null };
    if (!(error instanceof Refused)) throw error;
    const { stage, status, summary, message: cause } = error;
    const code = status === 400 ? 400024001 : 500024000;
    const body = { code, message: summary, cause };
    return { verdict: 'rejected', stage, error: cause, http_status: status, http_body: body };
  }
}
