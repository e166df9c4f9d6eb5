/** Types of the platform's structures, how a YAML value is read into one, and what of it is written again. */
import { parseQuantity, QuantityError } from './quantity.ts';
import { goNumber, type Raw } from './yaml.ts';

export type Type =
  | { kind: 'string' | 'int' | 'bool' | 'quantity' | 'any' }
  | { kind: 'list'; of: Type; named?: string }
  | { kind: 'map'; of: Type }
  | { kind: 'struct'; name: string; fields: readonly Field[] };

export interface Field {
  key: string;
  type: Type;
  /** Left out when empty; otherwise its empty value is written. */
  optional: boolean;
  /** Null is its empty value, and reading null takes back what was read before. */
  pointer: boolean;
}

export type Fields = Record<string, unknown>;

export const string: Type = { kind: 'string' };
export const int: Type = { kind: 'int' };
export const bool: Type = { kind: 'bool' };
export const quantity: Type = { kind: 'quantity' };
export const any: Type = { kind: 'any' };
export const strings: Type = { kind: 'list', of: string };

export function list(of: Type): Type {
  return { kind: 'list', of };
}

export function map(of: Type): Type {
  return { kind: 'map', of };
}

/** Keys with `?` are left out when empty. A structure in an optional place is a pointer, so that `{}` is not empty. */
export function struct(name: string, fields: Record<string, Type>): Type {
  return {
    kind: 'struct',
    name,
    fields: Object.entries(fields).map(([written, type]) => {
      const optional = written.endsWith('?');
      return { key: optional ? written.slice(0, -1) : written, type, optional, pointer: optional };
    }),
  };
}

export class TypeMismatch extends Error {}

function typeName(type: Type): string {
  if (type.kind === 'list') return `[]${typeName(type.of)}`;
  if (type.kind === 'map') return `map[string]${typeName(type.of)}`;
  if (type.kind === 'struct') return type.name.includes('.') ? type.name : `configuration.${type.name}`;
  return type.kind === 'any' ? 'interface {}' : type.kind;
}

function jsonName(raw: Raw): string {
  if (raw.kind === 'map') return 'object';
  if (raw.kind === 'list') return 'array';
  return raw.kind;
}

export function plain(raw: Raw): unknown {
  if (raw.kind === 'null') return null;
  if (raw.kind === 'list') return raw.items.map(plain);
  if (raw.kind === 'map') return Object.fromEntries([...raw.entries].map(([name, value]) => [name, plain(value)]));
  return raw.value;
}

/** Where a value stands: the structure it is a field of, and the way from the root. */
interface Place {
  owner: string;
  path: readonly string[];
}

/** Reads as JSON is read by the platform: mismatches are remembered and reading goes on, the first is reported. */
class Decoder {
  private first: string | undefined;
  private readonly isYaml: boolean;
  constructor(isYaml: boolean) {
    this.isYaml = isYaml;
  }

  decode(type: Type, raw: Raw, before: unknown, place: Place): unknown {
    if (raw.kind === 'null') return before;
    switch (type.kind) {
      case 'any':
        return plain(raw);
      case 'string':
        if (raw.kind === 'string') return raw.value;
        // only the way from YAML turns numbers and truth values into text
        if (this.isYaml && raw.kind === 'number') return goNumber(raw);
        if (this.isYaml && raw.kind === 'bool') return String(raw.value);
        break;
      case 'int':
        if (raw.kind === 'number' && Number.isInteger(raw.value)) return raw.value;
        break;
      case 'bool':
        if (raw.kind === 'bool') return raw.value;
        break;
      case 'quantity':
        return this.quantity(raw, before);
      case 'list':
        if (raw.kind === 'list') return raw.items.map((item) => this.decode(type.of, item, empty(type.of), place));
        break;
      case 'map':
        if (raw.kind === 'map') {
          const entries = [...raw.entries].map(([name, value]) => [
            name,
            this.decode(type.of, value, empty(type.of), { owner: place.owner, path: [...place.path, name] }),
          ]);
          return { ...(before as Fields | undefined), ...(Object.fromEntries(entries) as Fields) };
        }
        break;
      case 'struct':
        if (raw.kind === 'map') return this.struct(type, raw.entries, before, place);
        break;
    }
    this.mismatch(type, raw, place);
    return before;
  }

  /** Keys match without regard to case; of several spellings the one that sorts last has the last word, field by field. */
  private struct(
    type: Extract<Type, { kind: 'struct' }>,
    entries: Map<string, Raw>,
    before: unknown,
    place: Place,
  ): Fields {
    const result: Fields = { ...(before as Fields | undefined) };
    for (const name of [...entries.keys()].sort()) {
      const lower = name.toLowerCase();
      const field =
        type.fields.find(({ key }) => key === name) ?? type.fields.find(({ key }) => key.toLowerCase() === lower);
      const raw = entries.get(name);
      if (field === undefined || raw === undefined) continue;
      if (raw.kind === 'null') {
        if (isNullable(field)) result[field.key] = undefined;
        continue;
      }
      const path = [...place.path, field.key];
      const value = this.decode(field.type, raw, result[field.key], { owner: type.name, path });
      if (value !== undefined) result[field.key] = value;
    }
    return result;
  }

  private quantity(raw: Raw, before: unknown): unknown {
    const text = raw.kind === 'number' ? goNumber(raw) : raw.kind === 'string' ? raw.value : JSON.stringify(plain(raw));
    try {
      return parseQuantity(text);
    } catch (error) {
      if (!(error instanceof QuantityError)) throw error;
      this.first ??= error.message;
      return before;
    }
  }

  private mismatch(type: Type, raw: Raw, { owner, path }: Place): void {
    const shown = raw.kind === 'number' && type.kind === 'int' ? `number ${goNumber(raw)}` : jsonName(raw);
    const where = path.length === 0 ? 'Go value' : `Go struct field ${owner.replace(/^.*\./, '')}.${path.join('.')}`;
    this.first ??= `json: cannot unmarshal ${shown} into ${where} of type ${typeName(type)}`;
  }

  finish(): void {
    if (this.first !== undefined) throw new TypeMismatch(this.first);
  }
}

function isNullable(field: Field): boolean {
  const { kind } = field.type;
  return kind === 'list' || kind === 'map' || kind === 'any' || (kind === 'struct' && field.pointer);
}

/** What an element without a value is. */
function empty(type: Type): unknown {
  if (type.kind === 'string') return '';
  if (type.kind === 'int') return 0;
  if (type.kind === 'bool') return false;
  if (type.kind === 'struct') return {};
  return undefined;
}

/** Reads a value; throws TypeMismatch. `prefix` is the way to it in the message, `owner` the structure that holds it. */
export function decode(
  type: Type,
  raw: Raw,
  options: { from: 'yaml' | 'json'; place?: Place } = { from: 'yaml' },
): Fields | undefined {
  const decoder = new Decoder(options.from === 'yaml');
  const value = decoder.decode(type, raw, undefined, options.place ?? { owner: '', path: [] });
  decoder.finish();
  return value as Fields | undefined;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === 0 || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return false;
}

/** The document that the platform writes for a value: empty optional fields are gone, empty other ones are there. */
export function encode(type: Type, value: unknown): unknown {
  switch (type.kind) {
    case 'list':
      return Array.isArray(value) ? value.map((item: unknown) => encode(type.of, item)) : null;
    case 'map':
      if (typeof value !== 'object' || value === null) return null;
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, encode(type.of, item)]));
    case 'struct': {
      const source = (value ?? {}) as Fields;
      const result: Fields = {};
      for (const field of type.fields) {
        const item = source[field.key];
        const isLeftOut =
          field.type.kind === 'map' ? item === undefined || Object.keys(item as Fields).length === 0 : isEmpty(item);
        if (field.optional && isLeftOut) continue;
        result[field.key] = field.pointer && item === undefined ? null : encode(field.type, item);
      }
      return result;
    }
    default:
      return value ?? empty(type) ?? null;
  }
}
