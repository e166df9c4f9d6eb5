import { parseDocument, stringify } from 'yaml';

/** A cluster configuration as read by the platform's rules; sections are looked at where they are used. */
export type ClusterConfig = Record<string, unknown>;

export type ReadResult =
  { kind: 'ok'; config: ClusterConfig } | { kind: 'rejected'; stage: 'parse'; exitCode: 1 | 2; message: string };

export interface ConfigVerdict {
  verdict: 'accepted' | 'rejected';
  stage?: 'parse' | 'validate' | 'update' | 'modules';
  exitCode: number | null;
  message?: string;
  oldError?: string;
  completed?: ClusterConfig;
}

export function readConfig(text: string): ReadResult {
  const document = parseDocument(text, { version: '1.1', uniqueKeys: false });
  const [error] = document.errors;
  if (error !== undefined)
    return {
      kind: 'rejected',
      stage: 'parse',
      exitCode: 1,
      message: `error converting YAML to JSON: yaml: ${error.message}`,
    };
  const config = document.toJS() as ClusterConfig | null;
  if (config === null || config['cs'] === undefined || config['cs'] === null) {
    return {
      kind: 'rejected',
      stage: 'parse',
      exitCode: 2,
      message: 'panic: runtime error: invalid memory address or nil pointer dereference',
    };
  }
  return { kind: 'ok', config };
}

export function completeConfig(config: ClusterConfig): ClusterConfig {
  return config;
}

export function judgeConfig(input: { old: string | undefined; new: string }): ConfigVerdict {
  const read = readConfig(input.new);
  if (read.kind === 'rejected')
    return { verdict: 'rejected', stage: 'parse', exitCode: read.exitCode, message: read.message };
  return { verdict: 'accepted', exitCode: null, completed: completeConfig(read.config) };
}

export function dumpConfig(config: ClusterConfig): string {
  return stringify(config, { version: '1.1', sortMapEntries: true, lineWidth: 0, singleQuote: false });
}
