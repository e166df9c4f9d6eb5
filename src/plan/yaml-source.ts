import {
  Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  parseAllDocuments,
  Scalar,
  visit,
  YAMLMap,
  YAMLSeq,
} from 'yaml';
import type { CST, Node, Pair } from 'yaml';

/*
 * Edits of a YAML document as replacements in its text: what is not meant to change stays byte for byte, so that the platform's
 * YAML 1.1 reading of an unquoted `0123` or `yes` cannot change. The document's nodes tell where things stand.
 */

export type YamlPath = readonly (string | number)[];

/** A document that cannot be edited as asked; `line` and `column` count from 1. */
export class YamlEditError extends Error {
  override readonly name = 'YamlEditError';
  readonly path: string;
  readonly line: number | undefined;
  readonly column: number | undefined;

  constructor(message: string, path: YamlPath = [], where?: { line: number; column: number }) {
    const position = where === undefined ? '' : ` (line ${where.line}, column ${where.column})`;
    super(`${path.length === 0 ? '' : `${formatPath(path)}: `}${message}${position}`);
    this.path = formatPath(path);
    this.line = where?.line;
    this.column = where?.column;
  }
}

/** `nodes[0].name`, `cms.nodeSelector["kubernetes.io/hostname"]`. */
export function formatPath(path: YamlPath): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      if (!/^[A-Za-z_][-A-Za-z0-9_]*$/.test(part)) return `[${JSON.stringify(part)}]`;
      return index === 0 ? part : `.${part}`;
    })
    .join('');
}

/** Line and column, counted from 1, of an offset in a text. */
export function positionAt(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset);
  const lineStart = before.lastIndexOf('\n') + 1;
  return { line: before.split('\n').length, column: offset - lineStart + 1 };
}

// YAML 1.1 reads these words as booleans or null when they stand unquoted.
const reservedWords = /^(y|yes|n|no|true|false|on|off|null)$/i;

/** Whether a text may stand unquoted, in block and flow style, and be read as this very string by YAML 1.1 and 1.2. */
export function isPlainSafe(value: string): boolean {
  if (reservedWords.test(value)) return false;
  if (/^[A-Za-z][-A-Za-z0-9_.]*(:\d{1,5})?$/.test(value)) return true;
  if (/^\/[-A-Za-z0-9_./]*$/.test(value)) return true;
  if (/^[a-z]+:\/\/[-A-Za-z0-9_.]+(:\d{1,5})?(\/[-A-Za-z0-9_./]*)?$/.test(value)) return true;
  return /^\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?$/.test(value);
}

function quoteDouble(value: string): string {
  // JSON strings are YAML strings, but for these three, which YAML takes as line breaks or forbids raw.
  return JSON.stringify(value).replace(/[\u0085\u2028\u2029\u007f]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** Writes a string so that every YAML version reads the same text; `like` gives the quotes of a neighbour. */
export function writeScalar(value: string, like?: string): string {
  if (like === Scalar.QUOTE_DOUBLE) return quoteDouble(value);
  if (like === Scalar.QUOTE_SINGLE && /^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$/.test(value)) {
    return `'${value.replaceAll("'", "''")}'`;
  }
  return isPlainSafe(value) ? value : quoteDouble(value);
}

const parseOptions = {
  // Every scalar stays the text it is written as; nothing is interpreted here.
  schema: 'failsafe',
  uniqueKeys: false,
  keepSourceTokens: true,
  merge: false,
  prettyErrors: false,
} as const;

function firstDocument(text: string): Document.Parsed {
  const documents = parseAllDocuments(text, parseOptions);
  const document = 'empty' in documents ? undefined : documents[0];
  if (document === undefined) throw new YamlEditError('the document is empty');
  const problem = document.errors[0];
  if (problem !== undefined) {
    // The parser's words may quote the text, and with it a secret: only the kind of error and the place are told.
    throw new YamlEditError(`not readable as YAML: ${problem.code}`, [], positionAt(text, problem.pos[0]));
  }
  return document;
}

function keyText(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : '';
}

function isMergeKey(pair: Pair): boolean {
  return isScalar(pair.key) && pair.key.value === '<<' && (pair.key.type ?? Scalar.PLAIN) === Scalar.PLAIN;
}

function copyLooks<T extends Node>(from: Node, to: T): T {
  to.comment = from.comment ?? null;
  to.commentBefore = from.commentBefore ?? null;
  if (from.spaceBefore !== undefined) to.spaceBefore = from.spaceBefore;
  if (from.tag !== undefined) to.tag = from.tag;
  if ((isSeq(from) || isMap(from)) && (isSeq(to) || isMap(to)) && from.flow !== undefined) to.flow = from.flow;
  return to;
}

/** Copies a tree with aliases replaced by what they name, merge keys by the merged entries and without anchors. */
function withoutAliases(document: Document.Parsed, node: unknown, budget: { nodes: number }): unknown {
  if (--budget.nodes < 0) throw new YamlEditError('aliases expand to more than 100000 nodes');
  if (isAlias(node)) {
    const target = node.resolve(document);
    if (target === undefined) throw new YamlEditError(`alias *${node.source} names nothing`);
    return withoutAliases(document, target.clone(), budget);
  }
  if (isSeq(node)) {
    const copy = copyLooks(node, new YAMLSeq());
    copy.items = node.items.map((item) => withoutAliases(document, item, budget));
    return copy;
  }
  if (isMap(node)) {
    const copy = copyLooks(node, new YAMLMap());
    for (const pair of node.items) {
      if (!isMergeKey(pair)) {
        const clone = pair.clone();
        clone.key = withoutAliases(document, pair.key, budget);
        clone.value = withoutAliases(document, pair.value, budget);
        copy.items.push(clone);
        continue;
      }
      const value = withoutAliases(document, pair.value, budget);
      const sources = isSeq(value) ? value.items : [value];
      for (const source of sources) {
        if (!isMap(source)) throw new YamlEditError('a merge key (<<) names something that is not a map');
        for (const merged of source.items) {
          const key = keyText(merged);
          // Readers differ on who wins when the key stood before the merge; after it, the later one wins everywhere.
          if (copy.items.some((present) => keyText(present) === key)) {
            throw new YamlEditError(`a merge key (<<) brings "${key}" once more; write it out`);
          }
          copy.items.push(merged);
        }
      }
    }
    return copy;
  }
  if (isScalar(node)) {
    const copy = copyLooks(node, new Scalar(node.value));
    if (node.type !== undefined) copy.type = node.type;
    return copy;
  }
  return node;
}

function hasAliases(document: Document.Parsed): boolean {
  let found = false;
  visit(document, {
    Alias: () => {
      found = true;
      return visit.BREAK;
    },
    Pair: (_key, pair) => {
      if (!isMergeKey(pair)) return undefined;
      found = true;
      return visit.BREAK;
    },
  });
  return found;
}

/** The first document with aliases and merge keys written out (the only case in which more than the edited places is rewritten). */
function load(text: string): { text: string; contents: unknown; end: number } {
  const document = firstDocument(text);
  if (!hasAliases(document)) return { text, contents: document.contents, end: document.range[2] };
  const plain = new Document(undefined, { schema: 'failsafe' });
  plain.contents = withoutAliases(document, document.contents, { nodes: 100_000 }) as Node;
  plain.commentBefore = document.commentBefore;
  plain.comment = document.comment;
  const expanded = plain.toString({ lineWidth: 0, indentSeq: false });
  return { text: expanded, contents: firstDocument(expanded).contents, end: expanded.length };
}

export interface Place<T> {
  path: YamlPath;
  node: T;
}

interface Replacement {
  start: number;
  end: number;
  text: string;
}

function endOfLine(text: string, offset: number): number {
  const newline = text.indexOf('\n', offset);
  return newline === -1 ? text.length : newline + 1;
}

/** Offset behind the last character that belongs to a node, comments after it left out. */
function contentEnd(node: unknown): number {
  if (isPair(node)) return node.value === null ? contentEnd(node.key) : contentEnd(node.value);
  if ((isMap(node) || isSeq(node)) && node.flow !== true && node.items.length > 0) {
    return contentEnd(node.items.at(-1));
  }
  const range = (node as Node).range;
  if (!range) throw new YamlEditError('a node without a place in the text');
  return range[1];
}

function startOf(node: unknown): number {
  const range = (node as Node).range;
  if (!range) throw new YamlEditError('a node without a place in the text');
  return range[0];
}

function dashOf(seq: YAMLSeq, index: number): number {
  const token = seq.srcToken as CST.BlockSequence | undefined;
  const dash = token?.items[index]?.start.find((part) => part.type === 'seq-item-ind');
  if (dash === undefined) throw new YamlEditError('a list item without a dash');
  return dash.offset;
}

/** A document whose edits are collected and then written into its text at once. */
export class YamlSource {
  readonly text: string;
  readonly root: YAMLMap;
  /** Where the first document ends; the platform reads no further. */
  readonly end: number;
  #replacements: Replacement[] = [];
  #touched: YamlPath[] = [];

  /** Throws YamlEditError when the text holds no readable YAML map. */
  constructor(text: string) {
    const { text: expanded, contents, end } = load(text);
    this.text = expanded;
    if (!isMap(contents)) throw new YamlEditError('the document is not a map');
    this.root = contents;
    this.end = end;
  }

  /** Values at a path of keys; keys match without regard to case, as the platform reads them, so several may match. */
  values(path: readonly string[]): Place<Node>[] {
    let places: Place<Node>[] = [{ path: [], node: this.root }];
    for (const key of path) {
      places = places.flatMap((place) => {
        if (!isMap(place.node)) return [];
        return place.node.items
          .filter((pair) => keyText(pair).toLowerCase() === key.toLowerCase() && pair.value !== null)
          .map((pair) => ({ path: [...place.path, keyText(pair)], node: pair.value as Node }));
      });
    }
    return places;
  }

  /** Maps at a path; an empty value counts as none. */
  maps(path: readonly string[]): Place<YAMLMap>[] {
    return this.#typed(path, (node): node is YAMLMap => isMap(node), 'a map');
  }

  /** Lists at a path; an empty value counts as none. */
  lists(path: readonly string[]): Place<YAMLSeq>[] {
    return this.#typed(path, (node): node is YAMLSeq => isSeq(node), 'a list');
  }

  #typed<T extends Node>(path: readonly string[], test: (node: unknown) => node is T, what: string): Place<T>[] {
    return this.values(path).flatMap(({ path: at, node }) => {
      if (isEmpty(node)) return [];
      if (!test(node)) throw this.error(`must be ${what}`, at, node);
      return [{ path: at, node }];
    });
  }

  error(message: string, path: YamlPath, node?: unknown): YamlEditError {
    const range = (node as Node | undefined)?.range;
    return new YamlEditError(message, path, range ? positionAt(this.text, range[0]) : undefined);
  }

  /** Text of a scalar, undefined when it is empty or not a scalar. */
  static textOf(node: unknown): string | undefined {
    return isScalar(node) && !isEmpty(node) ? String(node.value) : undefined;
  }

  /** Texts of a list of scalars. */
  strings(place: Place<YAMLSeq>): string[] {
    return place.node.items.map((item, index) => {
      const text = YamlSource.textOf(item);
      if (text === undefined) throw this.error('must be a text', [...place.path, index], item);
      return text;
    });
  }

  replaceScalar(node: unknown, path: YamlPath, value: string): void {
    if (!isScalar(node)) throw this.error('must be a text', path, node);
    if (String(node.value) === value) return;
    const start = startOf(node);
    const end = contentEnd(node);
    const source = this.text.slice(start, end);
    const tail = source.endsWith('\n') ? '\n' : '';
    const lead = start === end && /[:-]/.test(this.text.charAt(start - 1)) ? ' ' : '';
    this.#replace({ start, end, text: `${lead}${writeScalar(value, node.type)}${tail}` }, path);
  }

  /** Renames a key of a map. */
  renameKey(map: Place<YAMLMap>, pair: Pair, key: string): void {
    const before = keyText(pair);
    if (before === key) return;
    this.replaceScalar(pair.key, [...map.path, before], key);
    this.#touched.push([...map.path, key]);
  }

  /** Appends texts or small maps of texts to a list that is not empty, written as its last item is. */
  append(place: Place<YAMLSeq>, items: readonly (string | Record<string, string>)[]): void {
    if (items.length === 0) return;
    const { node, path } = place;
    const last = node.items.at(-1);
    if (last === undefined) throw this.error('must not be empty', path, node);
    if (node.flow === true) {
      const end = contentEnd(last);
      this.#replace({ start: end, end, text: items.map((item) => `, ${this.#flowItem(item, last)}`).join('') }, path);
      return;
    }
    const dash = dashOf(node, node.items.length - 1);
    const lineStart = this.text.lastIndexOf('\n', dash - 1) + 1;
    const indent = this.text.slice(lineStart, dash).replace(/[^\t ]/g, ' ');
    const at = endOfLine(this.text, Math.max(contentEnd(last) - 1, dash));
    const newline = this.text.includes('\r\n') ? '\r\n' : '\n';
    const lines = items.flatMap((item) => this.#blockItem(item, last).map((line) => `${indent}${line}`));
    const lead = at > 0 && this.text.charAt(at - 1) !== '\n' ? newline : '';
    this.#replace({ start: at, end: at, text: lead + lines.map((line) => line + newline).join('') }, path);
  }

  #flowItem(item: string | Record<string, string>, like: unknown): string {
    if (typeof item === 'string') return writeScalar(item, isScalar(like) ? like.type : undefined);
    const sample = isMap(like) ? like.items[0] : undefined;
    const keyStyle = isScalar(sample?.key) ? sample.key.type : undefined;
    const valueStyle = isScalar(sample?.value) ? sample.value.type : undefined;
    const entries = orderedEntries(item, like);
    return `{${entries.map(([key, value]) => `${writeScalar(key, keyStyle)}: ${writeScalar(value, valueStyle)}`).join(', ')}}`;
  }

  #blockItem(item: string | Record<string, string>, like: unknown): string[] {
    if (typeof item === 'string' || (isMap(like) && like.flow === true)) return [`- ${this.#flowItem(item, like)}`];
    const sample = isMap(like) ? like.items[0] : undefined;
    const style = isScalar(sample?.value) ? sample.value.type : undefined;
    return orderedEntries(item, like).map(
      ([key, value], index) => `${index === 0 ? '- ' : '  '}${writeScalar(key)}: ${writeScalar(value, style)}`,
    );
  }

  /** Takes items out of a list; at least one must stay. */
  remove(place: Place<YAMLSeq>, indexes: readonly number[]): void {
    const { node, path } = place;
    if (indexes.length === 0) return;
    const gone = new Set(indexes);
    if (gone.size >= node.items.length) throw this.error('would become empty', path, node);
    for (const [first, last] of runs(gone)) {
      this.#replace(node.flow === true ? flowRange(node, first, last) : this.#blockRange(node, first, last), path);
    }
  }

  #blockRange(seq: YAMLSeq, first: number, last: number): Replacement {
    const start = this.text.lastIndexOf('\n', dashOf(seq, first) - 1) + 1;
    const item = seq.items[last];
    const end = endOfLine(this.text, Math.max(contentEnd(item) - 1, dashOf(seq, last)));
    return { start, end, text: '' };
  }

  /** Puts a text in place of a whole value, e.g. of an empty map. */
  replaceValue(place: Place<Node>, text: string): void {
    this.#replace({ start: startOf(place.node), end: contentEnd(place.node), text }, place.path);
  }

  #replace(replacement: Replacement, path: YamlPath): void {
    this.#replacements.push(replacement);
    this.#touched.push(path);
  }

  /** Paths that were edited so far. */
  get touched(): readonly YamlPath[] {
    return this.#touched;
  }

  /**
   * The edited text. Reads it once more and throws YamlEditError if anything outside the edited paths reads differently, which
   * would be a fault of this program.
   */
  toString(): string {
    const ordered = this.#replacements.toSorted((a, b) => a.start - b.start || a.end - b.end);
    let text = '';
    let at = 0;
    for (const { start, end, text: replacement } of ordered) {
      if (start < at) throw new YamlEditError('two edits of the same place');
      text += this.text.slice(at, start) + replacement;
      at = end;
    }
    text += this.text.slice(at);
    this.#assertUntouched(text);
    return text;
  }

  #assertUntouched(text: string): void {
    if (text === this.text) return;
    const before = flatten(this.root);
    const after = flattenTokens(text);
    const touched = this.#touched.map((path) => formatPath(path));
    for (const path of new Set([...before.keys(), ...after.keys()])) {
      if (before.get(path) === after.get(path)) continue;
      if (touched.some((prefix) => path === prefix || path.startsWith(`${prefix}[`) || path.startsWith(`${prefix}.`))) {
        continue;
      }
      throw new YamlEditError(`the edit would also change ${path}; nothing was written`);
    }
  }
}

function orderedEntries(item: Record<string, string>, like: unknown): [string, string][] {
  const order = isMap(like) ? like.items.map((pair) => keyText(pair).toLowerCase()) : [];
  const rank = (key: string): number => {
    const index = order.indexOf(key.toLowerCase());
    return index === -1 ? order.length : index;
  };
  return Object.entries(item).toSorted(([a], [b]) => rank(a) - rank(b));
}

function runs(indexes: ReadonlySet<number>): [number, number][] {
  const result: [number, number][] = [];
  for (const index of [...indexes].toSorted((a, b) => a - b)) {
    const run = result.at(-1);
    if (run !== undefined && run[1] === index - 1) run[1] = index;
    else result.push([index, index]);
  }
  return result;
}

function flowRange(seq: YAMLSeq, first: number, last: number): Replacement {
  const next = seq.items[last + 1];
  if (next !== undefined) return { start: startOf(seq.items[first]), end: startOf(next), text: '' };
  return { start: contentEnd(seq.items[first - 1]), end: contentEnd(seq.items[last]), text: '' };
}

function isEmpty(node: unknown): boolean {
  if (node === null || node === undefined) return true;
  if (!isScalar(node) || (node.type ?? Scalar.PLAIN) !== Scalar.PLAIN) return false;
  return /^(~|null|Null|NULL|)$/.test(String(node.value));
}

/**
 * Every scalar of the first document by path, as `plain:<source>` or `text:<value>`: two documents with equal maps are read alike by
 * every YAML version.
 */
export function flattenTokens(text: string): Map<string, string> {
  return flatten(load(text).contents);
}

function flatten(contents: unknown): Map<string, string> {
  const result = new Map<string, string>();
  const add = (path: YamlPath, value: string): void => {
    let name = formatPath(path);
    while (result.has(name)) name += '#';
    result.set(name, value);
  };
  const walk = (node: unknown, path: YamlPath): void => {
    if (isSeq(node)) {
      if (node.items.length === 0) add(path, 'empty list');
      node.items.forEach((item, index) => {
        walk(item, [...path, index]);
      });
      return;
    }
    if (isMap(node)) {
      if (node.items.length === 0) add(path, 'empty map');
      for (const pair of node.items) walk(pair.value, [...path, keyText(pair)]);
      return;
    }
    if (isScalar(node)) {
      const style = (node.type ?? Scalar.PLAIN) === Scalar.PLAIN ? 'plain' : 'text';
      add(path, `${node.tag === undefined ? '' : `${node.tag} `}${style}:${String(node.value)}`);
      return;
    }
    add(path, 'plain:');
  };
  walk(contents, []);
  return result;
}

/** The first document as plain values in which every scalar is the text it is written as, and an unquoted null is null. */
export function readTexts(text: string): unknown {
  const value = (node: unknown): unknown => {
    if (isSeq(node)) return node.items.map(value);
    if (isMap(node)) return Object.fromEntries(node.items.map((pair) => [keyText(pair), value(pair.value)]));
    return isEmpty(node) ? null : YamlSource.textOf(node);
  };
  return value(load(text).contents);
}
