/** What may not change between the recorded configuration and a new one. The order of the rules is that of their messages. */
import { needed, part, text, texts } from './access.ts';
import { forbidden, invalid, invalidList, required } from './field-errors.ts';
import type { Fields } from './schema.ts';

type Rule = (old: Fields, config: Fields) => string[];

const cs: Rule = (old, config) => {
  const [before, after] = [needed(old, 'cs'), needed(config, 'cs')];
  const addons = texts(after, 'addons') ?? [];
  const list = (fields: Fields): string => JSON.stringify(texts(fields, 'ipFamilies') ?? []);
  const isDual = (fields: Fields): boolean => fields['enableDualStack'] === true;
  return [
    ...(texts(before, 'addons') ?? [])
      .filter((addon) => !addons.includes(addon))
      .map((addon) => invalid('cs.addons', addon, 'proton cs addons do not support uninstall')),
    ...(list(before) === list(after) ? [] : [forbidden('cs.ipFamilies', 'should not be changed')]),
    ...(isDual(before) === isDual(after) ? [] : [forbidden('cs.enableDualStack', 'should not be changed')]),
  ];
};

const cr: Rule = (old, config) => {
  const isLocal = (fields: Fields): boolean => part(needed(fields, 'cr'), 'local') !== undefined;
  return isLocal(old) === isLocal(config) ? [] : [forbidden('cr', 'cr provisioner may not be changed')];
};

/** Differences of a prefix with what it should be; the platform's comparison stops after ten. */
function prefixErrors(path: string, before: string[] | undefined, after: string[] | undefined): string[] {
  const length = before?.length ?? 0;
  if ((after?.length ?? 0) < length) return [invalidList(path, after, 'only support expand hosts')];
  const why = (difference: string): string => invalidList(path, after, `${difference} old-hosts must be in front`);
  // an absent list is not an empty one
  if (before === undefined && after !== undefined) return [why('[] != <nil slice>')];
  if (before !== undefined && after === undefined) return [why('<nil slice> != []')];
  return (before ?? [])
    .flatMap((host, index) => (after?.[index] === host ? [] : [`slice[${index}]: ${after?.[index] ?? ''} != ${host}`]))
    .slice(0, 10)
    .map(why);
}

function immutable(path: string, key: string, before: Fields, after: Fields, why: string): string[] {
  return text(before, key) === text(after, key) ? [] : [invalid(`${path}.${key}`, text(after, key), why)];
}

/** A rule for a section that both have; a section that is gone, unless that is allowed, is the error `removed`. */
function section(key: string, removed: string | undefined, rule: Rule = () => []): Rule {
  return (old, config) => {
    const [before, after] = [part(old, key), part(config, key)];
    if (before === undefined) return [];
    if (after === undefined) return removed === undefined ? [] : [removed];
    return rule(before, after);
  };
}

function gone(path: string, name = path): string {
  return invalid(path, 'null', `${name} doesn't support uninstall`);
}

const mariadb: Rule = (before, after) => {
  const path = 'proton_mariadb';
  const [old, hosts] = [texts(before, 'hosts') ?? [], texts(after, 'hosts')];
  const errors: string[] = [];
  if ((hosts?.length ?? 0) < old.length)
    errors.push(invalidList(`${path}.hosts`, hosts, "mariadb doesn't support scaling down"));
  else if (old.some((host, index) => hosts?.[index] !== host))
    errors.push(invalidList(`${path}.hosts`, hosts, 'old hosts must be in front of the slice'));
  return [
    ...errors,
    ...immutable(path, 'data_path', before, after, 'data path is immutable'),
    ...immutable(path, 'storageClassName', before, after, 'storage class name is immutable'),
  ];
};

/** Directory, hosts that may only grow, storage class. */
function growing(path: string): Rule {
  return (before, after) => [
    ...immutable(path, 'data_path', before, after, 'data path is immutable'),
    ...prefixErrors(`${path}.hosts`, texts(before, 'hosts'), texts(after, 'hosts')),
    ...immutable(path, 'storageClassName', before, after, 'storage class name is immutable'),
  ];
}

const mongodb: Rule = (before, after) => [
  ...growing('mongodb')(before, after),
  ...immutable('mongodb', 'admin_user', before, after, 'Admin_user is immutable'),
  // the platform prints the user's name where it means the password
  ...(text(before, 'admin_passwd') === text(after, 'admin_passwd')
    ? []
    : [invalid('mongodb.admin_passwd', text(after, 'admin_user'), 'Admin_passwd is immutable')]),
];

/** Hosts that may be appended or taken away at the end; the message names the old one. */
const prometheus: Rule = (before, after) => {
  const [old, hosts] = [texts(before, 'hosts') ?? [], texts(after, 'hosts') ?? []];
  const common = Math.min(old.length, hosts.length);
  return [
    ...old
      .slice(0, common)
      .flatMap((host, index) =>
        hosts[index] === host ? [] : [invalid(`prometheus.hosts[${index}]`, host, 'field is immutable')],
      ),
    ...fixed('prometheus', ['data_path', 'storageClassName'], before, after),
  ];
};

function fixed(path: string, keys: readonly string[], before: Fields, after: Fields): string[] {
  return keys
    .filter((key) => text(before, key) !== text(after, key))
    .map((key) => forbidden(`${path}.${key}`, 'immutable'));
}

const grafana: Rule = (before, after) => {
  const [old, hosts] = [texts(before, 'hosts') ?? [], texts(after, 'hosts') ?? []];
  const changed = old.flatMap((host, index) =>
    hosts[index] === host ? [] : [forbidden(`grafana.hosts[${index}]`, 'immutable')],
  );
  return [...changed, ...fixed('grafana', ['data_path', 'storageClassName'], before, after)];
};

const rules: readonly Rule[] = [
  cs,
  cr,
  section('proton_mariadb', required('proton_mariadb', "mariadb doesn't support uninstall"), mariadb),
  section('opensearch', gone('openSearch')),
  section('kafka', gone('kafka'), growing('kafka')),
  section('zookeeper', gone('zookeeper'), growing('zookeeper')),
  section('proton_mq_nsq', undefined, growing('proton_mq_nsq')),
  section('proton_mongodb', gone('proton_mongodb'), mongodb),
  section('proton_redis', gone('proton_redis')),
  section('proton_policy_engine', gone('proton_policy_engine')),
  section('prometheus', gone('prometheus'), prometheus),
  section('grafana', gone('grafana'), grafana),
  section('package-store', gone('package-store', 'package store')),
  section('eceph', forbidden('eceph', 'not support uninstall')),
];

/** Errors of a completed configuration against the recorded one; throws Panic. */
export function validateUpdate(old: Fields, config: Fields): string[] {
  return rules.flatMap((rule) => rule(old, config));
}
