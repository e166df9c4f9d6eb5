import { isGrpcServiceError } from '@temporalio/client';
import type { Client } from '@temporalio/client';
import { searchAttributes } from '../workflows/messages.ts';
import { CliError } from './errors.ts';

/** As the Temporal CLI writes them. */
const typeNames = { KEYWORD: 'Keyword', DATETIME: 'Datetime' } as const;

/** Name and type of every search attribute that a migration sets. */
export const neededAttributes: readonly { name: string; type: string }[] = Object.values(searchAttributes).map(
  (key) => ({ name: key.name, type: typeNames[key.type] }),
);

/** On a server that lacks one, the first task of the workflow fails again and again, and nothing says so to whoever started it. */
export async function refuseMissingAttributes(client: Client): Promise<void> {
  const { namespace } = client.options;
  const known = await knownAttributes(client, namespace);
  if (known === undefined) return;
  const missing = neededAttributes.filter(({ name }) => !known.has(name));
  if (missing.length === 0) return;
  const names = missing.map(({ name }) => name).join(', ');
  const commands = missing.map(
    ({ name, type }) =>
      `  temporal operator search-attribute create --namespace ${namespace} --name ${name} --type ${type}`,
  );
  throw new CliError(
    'failure',
    `namespace ${namespace} lacks ${missing.length === 1 ? 'the search attribute' : 'the search attributes'} ${names}; nothing was started\n${commands.join('\n')}`,
    'run what stands above, then start again',
  );
}

/** Undefined where nobody may ask: then the start itself has to tell. */
async function knownAttributes(client: Client, namespace: string): Promise<ReadonlySet<string> | undefined> {
  try {
    const { customAttributes } = await client.connection.operatorService.listSearchAttributes({ namespace });
    return new Set(Object.keys(customAttributes));
  } catch (error) {
    // Permission denied; and servers that do not have this service at all.
    if (isGrpcServiceError(error) && [7, 12].includes(error.code)) return undefined;
    throw error;
  }
}
