import { isMap, isScalar, isSeq } from 'yaml';
import type { Node } from 'yaml';
import { unifiedDiff } from './diff.ts';
import { formatPath, YamlEditError, YamlSource } from './yaml-source.ts';
import type { YamlPath } from './yaml-source.ts';

export const redacted = '***';

const secretKey =
  /(passw|passphrase|pass$|pwd|secret|token|credential|private|admin_key|key[-_]?data|certificate[-_]?data|access[-_]?key|api[-_]?key)/i;
/** Names of Secrets and the like are no secrets, and needed to follow a diff. */
const publicKey = /^(secret|secret_?name|admin_secret_name)$/i;
const assignedText =
  /((?:passw(?:or)?d|pwd|token|secret|key)(?:\\*["'])?\s*[=:]\s*)(?:(["'])(?:\\.|(?!\2)[^\\])*\2?|[^\s,;&]+)/gi;
const addressText = /(:\/\/[^\s/:@]*:)[^\s/@]+(?=@)|(\bBearer\s+)\S+/gi;

/** Takes credentials out of free text: `password=…`, `token: "…"`, JSON, those in addresses and headers. */
export function redactText(text: string): string {
  return text
    .replace(assignedText, (_match, assignment: string, quote = '') => `${assignment}${quote}${redacted}${quote}`)
    .replace(addressText, (_match, address = '', scheme = '') => `${address}${scheme}${redacted}`);
}

export interface RedactedYaml {
  text: string;
  /** The values taken out, by path. They are secret. */
  secrets: Map<string, string>;
}

/** A YAML document with every secret value replaced by `***`. An unreadable document becomes one line that says so. */
export function redactYaml(text: string): RedactedYaml {
  const secrets = new Map<string, string>();
  let source: YamlSource;
  try {
    source = new YamlSource(text);
  } catch (error) {
    if (!(error instanceof YamlEditError)) throw error;
    return { text: `(not shown: ${error.message})\n`, secrets };
  }
  const places: { start: number; end: number; text: string }[] = [];
  const hide = (node: Node, path: YamlPath): void => {
    if (!node.range) return;
    const [start, end] = node.range;
    const raw = source.text.slice(start, end);
    if (raw === '') return;
    secrets.set(formatPath(path), raw);
    places.push({ start, end, text: raw.endsWith('\n') ? `'${redacted}'\n` : `'${redacted}'` });
  };
  const walk = (node: unknown, path: YamlPath, secret: boolean): void => {
    if (isMap(node)) {
      for (const pair of node.items) {
        const key = isScalar(pair.key) ? String(pair.key.value) : '';
        walk(pair.value, [...path, key], secret || (secretKey.test(key) && !publicKey.test(key)));
      }
    } else if (isSeq(node)) {
      node.items.forEach((item, index) => {
        walk(item, [...path, index], secret);
      });
    } else if (isScalar(node)) {
      if (secret || redactText(String(node.value)) !== String(node.value)) hide(node, path);
    }
  };
  walk(source.root, [], false);
  let result = '';
  let at = 0;
  for (const place of places) {
    result += source.text.slice(at, place.start) + place.text;
    at = place.end;
  }
  result += source.text.slice(at, source.end);
  const more = source.text.slice(source.end).trim() === '' ? '' : '# (further documents are not shown)\n';
  return { text: withoutComments(result) + more, secrets };
}

/** Comments may hold anything, also a password that was commented out. */
function withoutComments(text: string): string {
  return text.replace(/(^|\s)#.*$/gm, `$1# ${redacted}`);
}

/** Unified diff of two YAML documents without their secrets; says so when a secret itself differs. */
export function redactedYamlDiff(before: string, after: string, name: string): string {
  const old = redactYaml(before);
  const next = redactYaml(after);
  const paths = new Set([...old.secrets.keys(), ...next.secrets.keys()]);
  const differing = [...paths].filter((path) => old.secrets.get(path) !== next.secrets.get(path));
  const diff = unifiedDiff(old.text, next.text, name);
  if (differing.length === 0) return diff;
  return `${diff}# ${name}: secret values differ at ${differing.join(', ')}\n`;
}
