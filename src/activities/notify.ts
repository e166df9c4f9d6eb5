import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
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
  /** Signs messages where the robot demands it (DingTalk, Feishu). */
  signingKey?: string;
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
 * `kind:url`. The name of a plan's target is written in capitals, with `_` for `-` and `.`. A robot of DingTalk or Feishu that wants
 * messages signed has its key behind the address: `dingtalk:https://…#SEC…`.
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
  const [address = '', signingKey] = url.split(/#(.*)/s);
  if (signingKey === undefined) return { kind, url };
  if (signingKey === '' || (kind !== 'dingtalk' && kind !== 'feishu')) {
    throw new Error('what stands behind # is the key that signs messages to dingtalk and feishu, and to no others');
  }
  return { kind, url: address, signingKey };
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
  return (activityScope().lastSaid as { delivered?: string[] } | undefined)?.delivered ?? [];
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
    const { url, body } = signed(target, messageBody(target.kind, input), Date.now());
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json; charset=utf-8' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(timeout),
      // A redirect would carry the message to an address nobody configured.
      redirect: 'error',
    });
    const text = await response.text();
    if (!response.ok)
      return { why: `HTTP ${response.status}`, heals: response.status >= 500 || response.status === 429 };
    return refusal(target.kind, text);
  } catch (error) {
    // The client's messages may repeat the address; only the kind of trouble is told.
    const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
    const timedOut = error instanceof Error && error.name === 'TimeoutError';
    return { why: timedOut ? `no answer within ${timeout} ms` : (cause?.code ?? 'the request failed'), heals: true };
  }
}

/** Too many messages in this minute, or the service is busy: told with HTTP 200 as well. */
const busyCodes: ReadonlySet<number> = new Set([-1, 45009, 90030, 130101, 410100, 11232, 99991400]);

/** These services answer HTTP 200 also when they refuse a message. */
function refusal(kind: NotifyKind, text: string): { why?: string; heals: boolean } {
  if (kind === 'json' || kind === 'slack') return { heals: false };
  let answer: { errcode?: number; errmsg?: string; code?: number; msg?: string };
  try {
    answer = JSON.parse(text) as typeof answer;
  } catch {
    return { why: 'the answer is not JSON', heals: false };
  }
  const code = kind === 'feishu' ? (answer.code ?? 0) : (answer.errcode ?? 0);
  return code === 0 ? { heals: false } : { why: `refused with code ${code}`, heals: busyCodes.has(code) };
}

/** DingTalk takes the signature in the address (milliseconds), Feishu in the message (seconds). */
export function signed(
  { kind, url, signingKey }: NotifyTarget,
  body: object,
  now: number,
): { url: string; body: object } {
  if (signingKey === undefined) return { url, body };
  if (kind === 'feishu') {
    const timestamp = String(Math.floor(now / 1000));
    const sign = createHmac('sha256', `${timestamp}\n${signingKey}`).digest('base64');
    return { url, body: { timestamp, sign, ...body } };
  }
  const sign = createHmac('sha256', signingKey).update(`${now}\n${signingKey}`).digest('base64');
  const address = new URL(url);
  address.searchParams.set('timestamp', String(now));
  address.searchParams.set('sign', sign);
  return { url: address.href, body };
}

const titles: Record<NotifyInput['event'], string> = {
  gate: 'waits for a decision',
  blocked: 'is blocked',
  finished: 'is finished',
  'rolled-back': 'was rolled back',
  'budget-exceeded': 'exceeds its downtime budget',
};

/** Bytes of a text that a service takes; a longer one is refused whole. Of Slack, characters are meant, which are fewer. */
const longest = { slack: 12_000, dingtalk: 15_000, feishu: 15_000, wecom: 2048 } as const;

/** The message of an event in the shape of the service. */
export function messageBody(kind: NotifyKind, input: NotifyInput): object {
  if (kind === 'json') {
    const { targets: _targets, brief: _brief, ...event } = input;
    return event;
  }
  const content = textOf(input, longest[kind], kind === 'slack' ? escapeForSlack : (text) => text);
  switch (kind) {
    case 'slack':
      return { text: content };
    case 'dingtalk':
    case 'wecom':
      return { msgtype: 'text', text: { content } };
    case 'feishu':
      return { msg_type: 'text', content: { text: content } };
  }
}

/** Where it is too long the middle gives way: what it is about and the command to type stay whole. */
function textOf(input: NotifyInput, most: number, escape: (text: string) => string): string {
  const head = `Migration of ${input.cluster} ${titles[input.event]}${input.gate === undefined ? '' : ` (${input.gate})`}`;
  const ends = [head, ...(input.command === undefined ? [] : [input.command])].map(escape);
  const room = most - ends.reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
  const [first = '', ...last] = ends;
  return [first, cut(escape(input.text), room), ...last].join('\n');
}

function cut(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text;
  // A character that was cut in two is left out with its rest.
  const kept = new TextDecoder().decode(Buffer.from(text).subarray(0, Math.max(0, bytes - 3)), { stream: true });
  return `${kept}…`;
}

/** The three characters that Slack reads as marks, and no others. */
function escapeForSlack(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
