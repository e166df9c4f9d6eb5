/** `check`: a table of the cluster's health. Whatever it finds, it ends well. */
import { ownKubernetes } from './namespaces.ts';

interface Condition {
  type: string;
  status: string;
}

interface Health {
  metadata: { name: string };
  status?: { conditions?: Condition[]; phase?: string };
}

type Row = [category: string, item: string, result: string, status: 'OK' | 'Warn' | 'Error', remarks: string];

function isReady({ status }: Health): boolean {
  return status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') === true;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function rows(): Promise<Row[]> {
  const kubernetes = ownKubernetes();
  if (kubernetes === undefined) return [['Kubernetes', 'apiserver', '', 'Error', 'kubernetes client set is nil']];
  try {
    const nodes = await kubernetes.call<{ items: Health[] }>('GET', '/api/v1/nodes');
    const pods = await kubernetes.call<{ items: Health[] }>('GET', '/api/v1/namespaces/kube-system/pods');
    return [
      ...nodes.items.map((node): Row => {
        const ready = isReady(node);
        return ['Kubernetes', `node ${node.metadata.name}`, ready ? 'Ready' : 'NotReady', ready ? 'OK' : 'Error', ''];
      }),
      ...pods.items.map((pod): Row => {
        const phase = pod.status?.phase ?? 'Unknown';
        const status = phase === 'Running' || phase === 'Succeeded' ? 'OK' : 'Error';
        return ['Kubernetes', `pod ${pod.metadata.name}`, phase, status, ''];
      }),
    ];
  } catch (error) {
    return [['Kubernetes', 'apiserver', '', 'Error', message(error)]];
  }
}

const colours = { OK: 32, Warn: 33, Error: 31 } as const;

export async function check(): Promise<void> {
  const head = ['Category', 'Item', 'Result', 'Status', 'Remarks'];
  const all = await rows();
  const width = head.map((title, index) => Math.max(title.length, ...all.map((row) => row[index]?.length ?? 0)));
  const pad = (text: string, index: number): string => text.padEnd(width[index] ?? 0);
  process.stdout.write(`${head.map(pad).join('  ').trimEnd()}\n`);
  for (const row of all) {
    const cells = row.map((text, index) =>
      index === 3 ? `\u001b[${colours[row[3]]}m${pad(text, index)}\u001b[0m` : pad(text, index),
    );
    process.stdout.write(`${cells.join('  ').trimEnd()}\n`);
  }
}
