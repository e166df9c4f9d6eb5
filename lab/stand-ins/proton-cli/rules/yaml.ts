/** The first document of a YAML text as the platform's YAML library reads it: version 1.1, the last of two equal keys wins. */
import {
  Composer,
  LineCounter,
  Parser,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  type Document,
  type Scalar,
} from 'yaml';

/** A value before anything is known of the type that is expected in its place. */
export type Raw =
  | { kind: 'null' }
  | { kind: 'bool'; value: boolean }
  /** `integer` keeps what does not fit a double. */
  | { kind: 'number'; value: number; integer?: bigint }
  | { kind: 'string'; value: string }
  | { kind: 'list'; items: Raw[] }
  | { kind: 'map'; entries: Map<string, Raw> };

const nothing: Raw = { kind: 'null' };

export class YamlError extends Error {}

/** A value that came as JSON. */
export function rawOf(value: unknown): Raw {
  if (value === null || value === undefined) return nothing;
  if (typeof value === 'boolean') return { kind: 'bool', value };
  if (typeof value === 'number') return { kind: 'number', value };
  if (typeof value === 'string') return { kind: 'string', value };
  if (Array.isArray(value)) return { kind: 'list', items: value.map(rawOf) };
  return { kind: 'map', entries: new Map(Object.entries(value).map(([name, item]) => [name, rawOf(item)])) };
}

const words = new Map<string, Raw>([
  ...['', '~', 'null', 'Null', 'NULL'].map((word) => [word, nothing] as const),
  ...['y', 'Y', 'yes', 'Yes', 'YES', 'true', 'True', 'TRUE', 'on', 'On', 'ON'].map(
    (word) => [word, { kind: 'bool', value: true }] as const,
  ),
  ...['n', 'N', 'no', 'No', 'NO', 'false', 'False', 'FALSE', 'off', 'Off', 'OFF'].map(
    (word) => [word, { kind: 'bool', value: false }] as const,
  ),
]);

const integerShape =
  /^(?<sign>[-+]?)(?:0[bB](?<two>[01]+)|0[oO]?(?<eight>[0-7]+)|0[xX](?<sixteen>[0-9a-fA-F]+)|(?<ten>0|[1-9][0-9]*))$/;
const floatShape = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/;

function integer(text: string): bigint | undefined {
  const found = integerShape.exec(text)?.groups;
  if (found === undefined) return undefined;
  const { sign, two, eight, sixteen, ten } = found;
  const digits =
    two !== undefined
      ? `0b${two}`
      : eight !== undefined
        ? `0o${eight}`
        : sixteen !== undefined
          ? `0x${sixteen}`
          : (ten ?? '0');
  const value = sign === '-' ? -BigInt(digits) : BigInt(digits);
  return value >= -(2n ** 63n) && value < 2n ** 64n ? value : undefined;
}

/** What an unquoted scalar means. Numbers beyond a double, dates and sexagesimals stay text. */
export function plainScalar(text: string): Raw {
  const word = words.get(text);
  if (word !== undefined) return word;
  const string: Raw = { kind: 'string', value: text };
  if (!/^[-+.0-9]/.test(text)) return string;
  const number = (value: string): Raw =>
    floatShape.test(value) && Number.isFinite(Number(value)) ? { kind: 'number', value: Number(value) } : string;
  // after a leading dot the library looks at nothing but a float, and blanks no underscores
  if (text.startsWith('.')) return number(text);
  const bare = text.replaceAll('_', '');
  const whole = integer(bare);
  return whole === undefined ? number(bare) : { kind: 'number', value: Number(whole), integer: whole };
}

function key(raw: Raw): string {
  if (raw.kind === 'string') return raw.value;
  if (raw.kind === 'bool') return String(raw.value);
  if (raw.kind === 'number') return goNumber(raw);
  throw new YamlError(`unsupported map key of type: ${raw.kind}`);
}

/** A float as the platform prints it: shortest digits, an exponent from a million on. */
export function goNumber(raw: { value: number; integer?: bigint }): string {
  if (raw.integer !== undefined) return raw.integer.toString();
  const { value } = raw;
  const [digits = '', power = '0'] = value.toExponential().split('e');
  const exponent = Number(power);
  if (value !== 0 && (exponent < -4 || exponent >= 6)) {
    return `${digits}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  return String(value);
}

class Reader {
  private readonly document: Document.Parsed;
  constructor(document: Document.Parsed) {
    this.document = document;
  }

  value(node: unknown): Raw {
    if (node === null || node === undefined) return nothing;
    if (isAlias(node)) {
      const target = node.resolve(this.document);
      if (target === undefined) throw new YamlError(`unknown anchor '${node.source}' referenced`);
      return this.value(target);
    }
    if (isSeq(node)) return { kind: 'list', items: node.items.map((item) => this.value(item)) };
    if (isMap(node)) {
      const entries = new Map<string, Raw>();
      for (const pair of node.items) {
        if (isPair(pair) && isScalar(pair.key) && pair.key.type === 'PLAIN' && pair.key.source === '<<')
          this.merge(entries, this.value(pair.value));
        else entries.set(key(this.value(pair.key)), this.value(pair.value));
      }
      return { kind: 'map', entries };
    }
    if (isScalar(node)) return scalar(node);
    throw new YamlError('unexpected node');
  }

  private merge(entries: Map<string, Raw>, source: Raw): void {
    if (source.kind === 'map') for (const [name, value] of source.entries) entries.set(name, value);
    else if (source.kind === 'list') for (const item of source.items.toReversed()) this.merge(entries, item);
    else throw new YamlError('map merge requires map or sequence of maps as the value');
  }
}

function scalar(node: Scalar): Raw {
  const text = typeof node.value === 'string' ? node.value : (node.source ?? '');
  const isTagged = node.tag === '!' || node.tag === 'tag:yaml.org,2002:str';
  return node.type === 'PLAIN' && !isTagged ? plainScalar(text) : { kind: 'string', value: text };
}

// exactly these are what the library refuses
const control = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f\ufffe\uffff]/;

/** What the platform's library says about the most frequent mistakes; the rest in our own library's words. */
const complaints: Record<string, string> = {
  BLOCK_AS_IMPLICIT_KEY: 'mapping values are not allowed in this context',
  MULTILINE_IMPLICIT_KEY: 'mapping values are not allowed in this context',
  TAB_AS_INDENT: 'found character that cannot start any token',
};

function complaint(code: string, message: string): string {
  if (message.startsWith('Flow sequence')) return "did not find expected ',' or ']'";
  if (message.startsWith('Flow map')) return "did not find expected ',' or '}'";
  return complaints[code] ?? message.split('\n')[0] ?? '';
}

export function firstDocument(text: string): Raw {
  if (control.test(text)) throw new YamlError('control characters are not allowed');
  const lines = new LineCounter();
  const composer = new Composer({ version: '1.1', schema: 'failsafe', merge: false, uniqueKeys: false });
  // documents come one by one, so that a mistake after the first is not met
  for (const document of composer.compose(new Parser(lines.addNewLine).parse(text.replace(/^\ufeff/, '')))) {
    const [error] = document.errors;
    if (error !== undefined) {
      const said = complaint(error.code, error.message);
      // the library counts the lines of a parser's complaint from 0, of a scanner's from 1, where the mistake is noticed
      const at = lines.linePos(error.code === 'MULTILINE_IMPLICIT_KEY' ? error.pos[1] : error.pos[0]).line;
      const line = said.startsWith('did not find') ? at - 1 : at;
      throw new YamlError(line > 0 ? `line ${line}: ${said}` : said);
    }
    const { yaml: directive } = document.directives;
    if (directive.explicit === true && directive.version !== '1.1')
      throw new YamlError('found incompatible YAML document');
    return new Reader(document).value(document.contents);
  }
  return nothing;
}
