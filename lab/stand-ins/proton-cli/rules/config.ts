/** Reads, completes and judges a cluster configuration in the order in which `apply` does. */
import { Document, visit } from 'yaml';
import { nilPointer, Panic, part, text } from './access.ts';
import { complete } from './complete.ts';
import { clusterConfig } from './config-schema.ts';
import { joinErrors } from './field-errors.ts';
import { decode, encode, TypeMismatch } from './schema.ts';
import { validateUpdate } from './update.ts';
import { validate } from './validate.ts';
import { firstDocument, plainScalar, YamlError } from './yaml.ts';

/** A cluster configuration read by its types: what is there has its type, what is not was absent or null. */
export type ClusterConfig = Record<string, unknown>;

export type ReadResult =
  { kind: 'ok'; config: ClusterConfig } | { kind: 'rejected'; stage: 'parse'; exitCode: 1 | 2; message: string };

export interface ConfigVerdict {
  verdict: 'accepted' | 'rejected';
  /** Where it was decided; `update` also for what was accepted against a recorded configuration. */
  stage: 'parse' | 'validate' | 'update' | 'modules';
  exitCode: 1 | 2 | null;
  message?: string;
  /** Why the recorded configuration could not be read: it then counts as none. */
  oldError?: string;
  /** The single complaints of `message`. */
  errors?: string[];
  completed?: ClusterConfig;
}

/** An empty text is an empty configuration: that it lacks sections kills the tool only where it looks for them. */
export function readConfig(given: string): ReadResult {
  try {
    return { kind: 'ok', config: decode(clusterConfig, firstDocument(given)) ?? {} };
  } catch (error) {
    const rejected = { kind: 'rejected', stage: 'parse', exitCode: 1 } as const;
    if (error instanceof YamlError)
      return { ...rejected, message: `error converting YAML to JSON: yaml: ${error.message}` };
    if (error instanceof TypeMismatch)
      return { ...rejected, message: `error unmarshaling JSON: while decoding JSON: ${error.message}` };
    throw error;
  }
}

/** Errors before the first module; throws Panic. */
function judge(config: ClusterConfig, old: ClusterConfig | undefined): ConfigVerdict {
  const rejected = { verdict: 'rejected', exitCode: 1 } as const;
  const errors = validate(config);
  if (errors.length > 0) return { ...rejected, stage: 'validate', message: joinErrors(errors), errors };
  if (old !== undefined) {
    const changes = guarded(() => validateUpdate(old, config));
    if (typeof changes === 'string') return { ...rejected, stage: 'update', exitCode: 2, message: changes };
    if (changes.length > 0) return { ...rejected, stage: 'update', message: joinErrors(changes), errors: changes };
  }
  const cs = part(config, 'cs');
  if (text(cs, 'provisioner') === 'local' && part(cs, 'host_network') === undefined)
    return { ...rejected, stage: 'modules', exitCode: 2, message: nilPointer };
  return { verdict: 'accepted', stage: old === undefined ? 'validate' : 'update', exitCode: null, completed: config };
}

function guarded<T>(run: () => T): T | string {
  try {
    return run();
  } catch (error) {
    if (error instanceof Panic) return error.message;
    throw error;
  }
}

/** The verdict on a file; `old`: what is recorded, undefined when nothing is or it cannot be reached. */
export function judgeConfig(input: { old: string | undefined; new: string }): ConfigVerdict {
  const read = readConfig(input.new);
  if (read.kind === 'rejected')
    return { verdict: 'rejected', stage: 'parse', exitCode: read.exitCode, message: read.message };
  const recorded = input.old === undefined ? undefined : readConfig(input.old);
  const unreadable = recorded?.kind === 'rejected' ? { oldError: recorded.message } : {};
  const old = recorded?.kind === 'ok' ? recorded.config : undefined;
  const verdict = guarded(() => judge(complete(read.config), old));
  if (typeof verdict === 'string')
    return { verdict: 'rejected', stage: 'validate', exitCode: 2, message: verdict, ...unreadable };
  return { ...verdict, ...unreadable };
}

/** The value of the document that the platform writes for a configuration. */
export function documentOf(config: ClusterConfig): ClusterConfig {
  return encode(clusterConfig, config) as ClusterConfig;
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}

/** YAML as the platform writes it: keys sorted, lists not indented, double quotes where a text would read as something else. */
export function dumpYaml(value: unknown): string {
  const document = new Document(sorted(value), { version: '1.1' });
  visit(document, {
    Scalar: (_, node) => {
      if (typeof node.value === 'string' && plainScalar(node.value).kind !== 'string') node.type = 'QUOTE_DOUBLE';
    },
  });
  return document.toString({ lineWidth: 0, singleQuote: null, indentSeq: false });
}

export function dumpConfig(config: ClusterConfig): string {
  return dumpYaml(documentOf(config));
}
