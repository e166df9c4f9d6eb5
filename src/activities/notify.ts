import { readFile } from 'node:fs/promises';
import { Context } from '@temporalio/activity';
import type { NotifyActivities } from './contract.ts';
import { errorText } from './failures.ts';
import { activityScope, pause, whileBeating } from './polling.ts';

type NotifyInput = Parameters<NotifyActivities['notify']>[0];

/** Shapes of webhooks this program can talk to. */
export const notifyKinds = ['json', 'slack', 'dingtalk', 'feishu', 'wecom'] as const;
export type NotifyKind = (typeof notifyKinds)[number];

export interface NotifyTarget {
  kind: NotifyKind;
  /** A secret: whoever has it can post there. */
  url: string;
}

/** Answers the target of a name, or undefined; reads it anew each time, so that a corrected address counts at once. */
export type TargetLookup = (name: string) => Promise<NotifyTarget | undefined>;

export interface NotifyDeps {
  targets: TargetLookup;
  /** Milliseconds for one request; default 5000. */
  timeout?: number;
  /** Pauses between tries, milliseconds; default `notifyPauses`. */
  pauses?: readonly number[];
}

/** Nobody waits for a message: a service that restarts, or a network that comes back, still gets it. About six minutes in all. */
export const notifyPauses: readonly number[] = [500, 2_000, 10_000, 30_000, 60_000, 120_000, 120_000];

/** For when somebody waits for it. */
export const briefPauses: readonly number[] = [500, 2_000, 5_000];

/** What the names of variables begin with that hold targets. */
export const targetPrefix = 'FERRY_NOTIFY_';

/**
 * Targets from the worker's environment: `FERRY_NOTIFY_<NAME>=kind:url`, or `FERRY_NOTIFY_<NAME>=file:/path` of a file that holds
 * `kind:url`. The name of a plan's target is written in capitals, with `_` for `-` and `.`.
 */
export function environmentTargets(env: NodeJS.ProcessEnv): TargetLookup {
  return async (name) => {
    const value = env[`${targetPrefix}${name.toUpperCase().replaceAll(/[-.]/g, '_')}`];
    if (value === undefined) return undefined;
    return value.startsWith('file:') ? parseTarget(await readFile(value.slice(5), 'utf8')) : parseTarget(value);
  };
}

/** `kind:url`. Throws without repeating the value. */
export function parseTarget(value: string): NotifyTarget {
  const at = value.indexOf(':');
  const kind = notifyKinds.find((known) => known === value.slice(0, at));
  const url = value.slice(at + 1).trim();
  if (kind === undefined || !/^https?:\/\//.test(url) || !URL.canParse(url)) {
    throw new Error(`must be kind:url, kind one of ${notifyKinds.join(', ')}`);
  }
  return { kind, url };
}

/** Tells people where they are looking. */
export function createNotifyActivities(deps: NotifyDeps): NotifyActivities {
  return {
    notify: async (input) => {
      // Nobody is told twice because a worker was lost in between.
      const before = toldBefore();
      const delivered = input.targets.filter((target) => before.includes(target));
      const failed: { target: string; why: string }[] = [];
      // The list grows; every heartbeat carries what it holds by then.
      await whileBeating({ delivered }, () =>
        Promise.all(
          input.targets
            .filter((target) => !before.includes(target))
            .map(async (target) => {
              const why = await deliver(deps, target, input);
              if (why === undefined) delivered.push(target);
              else failed.push({ target, why });
            }),
        ),
      );
      return { delivered: delivered.sort(), failed: failed.sort((a, b) => (a.target < b.target ? -1 : 1)) };
    },
  };
}

/** Whom an earlier try of the same call reached, by its last heartbeat. */
function toldBefore(): string[] {
  try {
    const details = Context.current().info.heartbeatDetails as { delivered?: string[] } | undefined;
    return details?.delivered ?? [];
  } catch {
    return [];
  }
}

/** Undefined when it arrived, else why not; never the address. */
async function deliver(deps: NotifyDeps, name: string, input: NotifyInput): Promise<string | undefined> {
  let target: NotifyTarget | undefined;
  try {
    target = await deps.targets(name);
  } catch (error) {
    return `its configuration on the worker cannot be read: ${errorText(error)}`;
  }
  if (target === undefined) return 'the worker knows no address for it (FERRY_NOTIFY_<NAME>)';
  const pauses = deps.pauses ?? (input.brief === true ? briefPauses : notifyPauses);
  for (let attempt = 0; ; attempt += 1) {
    const { why, heals } = await post(target, input, deps.timeout ?? 5000);
    if (why === undefined) return undefined;
    const rest = pauses[attempt];
    const tries = attempt === 0 ? why : `${why}, ${attempt + 1} tries`;
    if (!heals || rest === undefined) return tries;
    if (!(await rested(rest))) return `${tries}, then given up: the migration had ended`;
  }
}

/** Pauses; false when the workflow asks to stop meanwhile. A worker that shuts down ends this try, and another one takes it up. */
async function rested(milliseconds: number): Promise<boolean> {
  try {
    await pause(milliseconds);
    return true;
  } catch (error) {
    if (activityScope().isGivenUp()) return false;
    throw error;
  }
}

async function post(
  target: NotifyTarget,
  input: NotifyInput,
  timeout: number,
): Promise<{ why?: string; heals: boolean }> {
  try {
    const response = await fetch(target.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(messageBody(target.kind, input)),
      signal: AbortSignal.timeout(timeout),
      // A redirect would carry the message to an address nobody configured.
      redirect: 'error',
    });
    const text = await response.text();
    if (!response.ok)
      return { why: `HTTP ${response.status}`, heals: response.status >= 500 || response.status === 429 };
    const refused = refusal(target.kind, text);
    return refused === undefined ? { heals: false } : { why: refused, heals: false };
  } catch (error) {
    // The client's messages may repeat the address; only the kind of trouble is told.
    const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
    const timedOut = error instanceof Error && error.name === 'TimeoutError';
    return { why: timedOut ? `no answer within ${timeout} ms` : (cause?.code ?? 'the request failed'), heals: true };
  }
}

/** These services answer HTTP 200 also when they refuse a message. */
function refusal(kind: NotifyKind, text: string): string | undefined {
  if (kind === 'json' || kind === 'slack') return undefined;
  let answer: { errcode?: number; errmsg?: string; code?: number; msg?: string };
  try {
    answer = JSON.parse(text) as typeof answer;
  } catch {
    return 'the answer is not JSON';
  }
  const code = kind === 'feishu' ? (answer.code ?? 0) : (answer.errcode ?? 0);
  return code === 0 ? undefined : `refused with code ${code}`;
}

const titles: Record<NotifyInput['event'], string> = {
  gate: 'waits for a decision',
  blocked: 'is blocked',
  finished: 'is finished',
  'rolled-back': 'was rolled back',
  'budget-exceeded': 'exceeds its downtime budget',
};

/** The message of an event in the shape of the service. */
export function messageBody(kind: NotifyKind, input: NotifyInput): object {
  const lines = [
    `Migration of ${input.cluster} ${titles[input.event]}${input.gate === undefined ? '' : ` (${input.gate})`}`,
    input.text,
    ...(input.command === undefined ? [] : [input.command]),
  ];
  const text = lines.join('\n');
  switch (kind) {
    case 'json': {
      const { targets: _targets, brief: _brief, ...event } = input;
      return event;
    }
    case 'slack':
      return { text };
    case 'dingtalk':
    case 'wecom':
      return { msgtype: 'text', text: { content: text } };
    case 'feishu':
      return { msg_type: 'text', content: { text } };
  }
}
