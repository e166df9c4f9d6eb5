import { fileURLToPath } from 'node:url';
import type { DataConverter } from '@temporalio/common';
import { createCodec } from './codec.ts';
import { readKeyRing } from './key-ring.ts';

/** How client and worker write payloads: sealed when a key ring is named, else plain. Sealed ones are recognised in either case. */
export function createDataConverter(keysFile?: string): DataConverter {
  if (keysFile === undefined) return { payloadCodecs: [createCodec()] };
  return { payloadCodecs: [createCodec(readKeyRing(keysFile))], failureConverterPath };
}

const failureConverterPath = fileURLToPath(
  new URL(`failure-converter${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);
