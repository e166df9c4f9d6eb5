import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { History } from '@temporalio/common/lib/proto-utils.js';

export const historiesFolder = join(import.meta.dirname, '..', 'fixtures', 'histories');

interface SavedHistory {
  name: string;
  workflowId: string;
  history: History;
}

interface ProtoJson {
  toJson: (type: unknown, message: unknown) => unknown;
  fromJson: (type: unknown, json: unknown, options: { ignoreUnknownFields: boolean }) => History;
}
interface Reflection {
  lookupType: (name: string) => unknown;
}

/*
 * The SDK's own conversion takes the reflection of one copy of protobufjs and the JSON functions of another wherever npm installs two,
 * and then refuses every history. Here both come from the copy that belongs to the messages.
 */
const requireFromCommon = createRequire(createRequire(import.meta.url).resolve('@temporalio/common'));
const requireFromProto = createRequire(requireFromCommon.resolve('@temporalio/proto'));
const { patchProtobufRoot } = requireFromCommon('@temporalio/proto/lib/patch-protobuf-root') as {
  patchProtobufRoot: (root: unknown) => Reflection;
};
const protoJson = requireFromProto('protobufjs/ext/protojson') as ProtoJson;
const historyType = patchProtobufRoot(requireFromCommon('@temporalio/proto')).lookupType(
  'temporal.api.history.v1.History',
);

/** Commands whose input a replay does not look at; it is half of a history. */
const withoutInput = ['activityTaskScheduledEventAttributes', 'startChildWorkflowExecutionInitiatedEventAttributes'];

/** One event per line, so that a change of a history can be read. */
export function writeHistory(workflowId: string, history: History): string {
  const { events } = protoJson.toJson(historyType, history) as { events: Record<string, unknown>[] };
  for (const name of withoutInput) {
    for (const event of events) {
      const attributes = event[name] as { input?: unknown } | undefined;
      delete attributes?.input;
    }
  }
  // Where the sources lay on the machine that recorded it is nobody's business.
  const lines = events
    .map((event) => JSON.stringify(event, (key, value: unknown) => (key === 'stackTrace' ? undefined : value)))
    .join(',\n');
  return `{"workflowId":${JSON.stringify(workflowId)},"events":[\n${lines}\n]}\n`;
}

/** A saved history, after a change of its text where there is one. */
export function readHistory(name: string, change: (text: string) => string = (text) => text): SavedHistory {
  const text = change(readFileSync(join(historiesFolder, `${name}.json`), 'utf8'));
  const { workflowId, events } = JSON.parse(text) as { workflowId: string; events: object[] };
  return { name, workflowId, history: protoJson.fromJson(historyType, { events }, { ignoreUnknownFields: true }) };
}

export function savedNames(): string[] {
  return readdirSync(historiesFolder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .toSorted();
}
