/** Looking into a configuration that was read by its types: what is there has its type, what is not is absent. */
import type { Fields } from './schema.ts';

export function part(fields: Fields | undefined, key: string): Fields | undefined {
  return fields?.[key] as Fields | undefined;
}

export function text(fields: Fields | undefined, key: string): string {
  return (fields?.[key] as string | undefined) ?? '';
}

export function number(fields: Fields | undefined, key: string): number {
  return (fields?.[key] as number | undefined) ?? 0;
}

/** The list, or undefined where the platform has no list at all. */
export function texts(fields: Fields | undefined, key: string): string[] | undefined {
  return fields?.[key] as string[] | undefined;
}

export function hostsOf(fields: Fields | undefined): string[] {
  return texts(fields, 'hosts') ?? [];
}

export function nodesOf(config: Fields): Fields[] {
  return (config['nodes'] as Fields[] | undefined) ?? [];
}

/** Ends the tool: what it does not look for before it reaches for it. */
export class Panic extends Error {}

export const nilPointer = 'panic: runtime error: invalid memory address or nil pointer dereference';

/** A section that the platform takes for granted. */
export function needed(config: Fields, key: string): Fields {
  const found = part(config, key);
  if (found === undefined) throw new Panic(nilPointer);
  return found;
}
