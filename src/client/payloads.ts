import type { LoadedDataConverter, Payload } from '@temporalio/common';

/** A client, of workflows or of all. */
interface Converting {
  options: { loadedDataConverter: LoadedDataConverter };
}

/** The value in a payload, through the codecs and the converter of the client. */
export async function decodePayload(client: Converting, payload: Payload): Promise<unknown> {
  const { payloadCodecs, payloadConverter } = client.options.loadedDataConverter;
  let payloads = [payload];
  for (const codec of payloadCodecs) payloads = await codec.decode(payloads);
  const [decoded] = payloads;
  return decoded === undefined ? undefined : payloadConverter.fromPayload(decoded);
}

/** The message of a failure; codecs may have moved it into a payload. */
export async function failureMessage(
  client: Converting,
  failure: { message?: string | null; encodedAttributes?: Payload | null },
): Promise<string> {
  // A server answers null where a fixture has nothing at all.
  if (!failure.encodedAttributes) return failure.message ?? '';
  const hidden = await decodePayload(client, failure.encodedAttributes);
  const message = (hidden as { message?: unknown } | undefined)?.message;
  return typeof message === 'string' ? message : (failure.message ?? '');
}
