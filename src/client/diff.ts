import { readConfig, readRecords } from '../activities/facts.ts';
import { componentsSecretName, editComponentsSecret } from '../plan/components-secret.ts';
import type { ConfigEditStage } from '../plan/config-edit.ts';
import { configKey, editConfig, YamlEditError } from '../plan/config-edit.ts';
import type { Plan } from '../plan/plan.ts';
import { redactedYamlDiff, redactText } from '../plan/redact.ts';
import { pc } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { CliError } from './errors.ts';
import { print } from './output.ts';
import { loadPlan } from './plan-file.ts';
import type { PlatformOptions } from './platform.ts';
import { withCluster } from './platform.ts';

interface DiffOptions extends GlobalOptions, PlatformOptions {
  output: OutputFormat;
}

export interface StageDiff {
  stage: 'add-nodes' | 'edit-secrets' | 'reinstall' | 'remove-nodes';
  /** What is edited, and what of it changes hands. */
  what: string;
  /** Unified diffs without secrets; empty: nothing changes. */
  diff: string;
}

/** `ferry diff`. */
export async function showDiff(file: string, options: DiffOptions): Promise<void> {
  const plan = loadPlan(file);
  const { configNamespace, resourceNamespace } = plan.platform;
  const stages = await withCluster(options, async (api) =>
    stageDiffs(plan, {
      document: await readConfig(api, configNamespace),
      records: await readRecords(api, resourceNamespace),
    }),
  );
  print(stages, options.output, () => describeStages(stages));
}

/** What the stages of a plan do to the documents of the platform, one after the other. Answers no secret value. */
export function stageDiffs(
  plan: Plan,
  live: { document: string; records: Readonly<Record<string, string>> },
): StageDiff[] {
  const stages: StageDiff[] = [];
  const name = `proton-cli-config/${configKey}`;
  let document = live.document;
  const edit = (stage: StageDiff['stage'], edits: ConfigEditStage, more = ''): void => {
    const before = document;
    document = expecting(stage, () => editConfig(before, edits, plan, plan.components).text);
    stages.push({
      stage,
      what: stage === 'edit-secrets' ? 'hosts of components, where the platform records them' : 'applied by proton-cli',
      diff: `${redactedYamlDiff(before, document, name)}${more}`,
    });
  };
  if (plan.nodes.add.length > 0) edit('add-nodes', 'add-nodes');
  if (plan.components.length > 0) {
    const edited = expecting('edit-secrets', () => editComponentsSecret(live.records, plan.components, 'forth'));
    const records = edited.changed.map((key) =>
      redactedYamlDiff(live.records[key] ?? '', edited.data[key] ?? '', `${componentsSecretName}/${key}`),
    );
    edit('edit-secrets', 'reinstall', records.join(''));
    // The same document again: the hosts agree by now, which is what makes the platform accept it.
    edit('reinstall', 'reinstall');
  }
  if (plan.nodes.remove.length > 0) edit('remove-nodes', 'remove-nodes');
  return stages;
}

function expecting<T>(stage: string, edit: () => T): T {
  try {
    return edit();
  } catch (error) {
    if (!(error instanceof YamlEditError)) throw error;
    throw new CliError(
      'failure',
      `the documents in the cluster are not as the plan expects (${stage}): ${redactText(error.message)}; nothing was changed`,
      'ferry check PLAN, then correct the record or make the plan again',
      error,
    );
  }
}

export function describeStages(stages: readonly StageDiff[]): string {
  if (stages.length === 0) return 'Nothing changes: the plan adds no node, removes none and moves no component.';
  return stages
    .map(({ stage, what, diff }) => {
      const body = diff === '' ? pc.dim('no change to the document') : colorDiff(diff);
      return `${pc.bold(`== ${stage}`)} ${pc.dim(`(${what})`)}\n${body}`;
    })
    .join('\n\n');
}

export function colorDiff(diff: string): string {
  return diff
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => {
      if (line.startsWith('---') || line.startsWith('+++')) return pc.bold(line);
      if (line.startsWith('@@')) return pc.cyan(line);
      if (line.startsWith('+')) return pc.green(line);
      if (line.startsWith('-')) return pc.red(line);
      return line.startsWith('#') ? pc.yellow(line) : line;
    })
    .join('\n');
}
