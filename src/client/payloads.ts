import type { Client } from '@temporalio/client';
import type { Payload } from '@temporalio/common';

/** The value in a payload, through the codecs and the converter of the client. */
export async function decodePayload(client: Client, payload: Payload): Promise<unknown> {
  const { payloadCodecs, payloadConverter } = client.options.loadedDataConverter;
  let payloads = [payload];
  for (const codec of payloadCodecs) payloads = await codec.decode(payloads);
  const [decoded] = payloads;
  return decoded === undefined ? undefined : payloadConverter.fromPayload(decoded);
}
