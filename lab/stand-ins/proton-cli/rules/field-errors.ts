/** Errors about fields in the platform's words. */

/** A string as the platform quotes it. */
export function quote(text: string): string {
  const short: Record<string, string> = {
    '\u0007': '\\a',
    '\b': '\\b',
    '\f': '\\f',
    '\n': '\\n',
    '\r': '\\r',
    '\t': '\\t',
    '\v': '\\v',
    '"': '\\"',
    '\\': '\\\\',
  };
  const inner = Array.from(text, (letter) => {
    const code = letter.codePointAt(0) ?? 0;
    if (short[letter] !== undefined) return short[letter];
    if (code < 0x20 || code === 0x7f) return `\\x${code.toString(16).padStart(2, '0')}`;
    if (/[\p{C}\p{Z}]/u.test(letter) && letter !== ' ')
      return code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
    return letter;
  });
  return `"${inner.join('')}"`;
}

/** A list as the platform prints it; nothing at all is not the same as an empty list. */
export function quoteList(items: readonly string[] | undefined): string {
  return items === undefined ? '[]string(nil)' : `[]string{${items.map(quote).join(', ')}}`;
}

type Value = string | number | readonly string[] | undefined;

function shown(value: Value): string {
  if (typeof value === 'string') return quote(value);
  return typeof value === 'number' ? String(value) : quoteList(value);
}

export function invalid(path: string, value: Value, why: string): string {
  return `${path}: Invalid value: ${shown(value)}: ${why}`;
}

/** For lists that are there or not, whose absence prints as such. */
export function invalidList(path: string, value: readonly string[] | undefined, why: string): string {
  return `${path}: Invalid value: ${quoteList(value)}: ${why}`;
}

export function required(path: string, why = ''): string {
  return `${path}: Required value${why === '' ? '' : `: ${why}`}`;
}

export function forbidden(path: string, why: string): string {
  return `${path}: Forbidden: ${why}`;
}

export function notFound(path: string, value: string): string {
  return `${path}: Not found: ${quote(value)}`;
}

export function duplicate(path: string, value: Value): string {
  return `${path}: Duplicate value: ${shown(value)}`;
}

export function unsupported(path: string, value: string, supported: readonly string[]): string {
  const list = supported.length === 0 ? '' : `: supported values: ${supported.map(quote).join(', ')}`;
  return `${path}: Unsupported value: ${quote(value)}${list}`;
}

export function tooMany(path: string, count: number, most: number): string {
  return `${path}: Too many: ${count}: must have at most ${most} items`;
}

/** One error on the same line, several on one each. */
export function joinErrors(errors: readonly string[]): string {
  const [only = ''] = errors;
  if (errors.length < 2) return `invalid: ${only}`;
  return `invalid:\n${errors.map((error) => `  ${error}\n`).join('')}`;
}
