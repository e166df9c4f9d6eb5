import { ensureParts } from '../../lab/build/parts.ts';

/** The real servers, on a machine that has none yet. */
export async function setup(): Promise<void> {
  await ensureParts(['temporal']);
}
