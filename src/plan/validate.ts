import { isMap, isNode, isScalar, LineCounter, parseDocument } from 'yaml';
import type { Document, Node } from 'yaml';
import type { z } from 'zod';
import { planDigest } from './digest.ts';
import { planSchema } from './plan.ts';
import type { Plan } from './plan.ts';
import { checkRules } from './rules.ts';
import type { RuleContext } from './rules.ts';
import { formatPath } from './yaml-source.ts';

export type PlanPath = readonly (string | number)[];

export interface PlanError {
  /** `transfers[0].destination.path`; empty for the document as a whole. */
  path: string;
  message: string;
  /** Counted from 1. */
  line?: number;
  column?: number;
}

export type PlanResult = { ok: true; plan: Plan } | { ok: false; errors: PlanError[] };

export interface ParseOptions extends RuleContext {
  /** `ignore`: a missing or stale digest is no error and is replaced by the right one. Default `require`. */
  digest?: 'require' | 'ignore';
}

/**
 * Reads a plan and collects every error in it: syntax, types and the rules across fields. Nothing else may look at a plan before this
 * accepted it.
 */
export function parsePlan(text: string, format: 'yaml' | 'json', options: ParseOptions = {}): PlanResult {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true, merge: true });
  const syntax = syntaxErrors(text, format, document, lines);
  if (syntax.length > 0) return { ok: false, errors: syntax };
  const raw: unknown = document.toJS({ maxAliasCount: 1000 });
  const place = (path: PlanPath): Pick<PlanError, 'line' | 'column'> => placeOf(document, path, lines);
  return checkPlan(raw, options, place);
}

/** The same for a plan that is data already, e.g. the argument of a workflow; its errors have no lines. */
export function parsePlanData(raw: unknown, options: ParseOptions = {}): PlanResult {
  return checkPlan(raw, options, () => ({}));
}

/** One line per error: `plan.yaml:12:5: transfers[0].source.path: must be an absolute path`. */
export function formatPlanErrors(errors: readonly PlanError[], file: string): string[] {
  return errors.map(({ path, message, line, column }) => {
    const where = line === undefined ? file : `${file}:${line}:${column ?? 1}`;
    return `${where}: ${path === '' ? '' : `${path}: `}${message}`;
  });
}

function checkPlan(raw: unknown, options: ParseOptions, place: (path: PlanPath) => object): PlanResult {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    return { ok: false, errors: [{ path: '', message: 'a plan is a map of fields', ...place([]) }] };
  }
  const sealed = options.digest === 'ignore' ? { ...raw, digest: `sha256:${'0'.repeat(64)}` } : raw;
  const parsed = planSchema.safeParse(sealed);
  const found: { path: PlanPath; message: string }[] = parsed.success ? [] : issuesOf(parsed.error);
  found.push(...checkRules(sealed as Record<string, unknown>, options));
  if (parsed.success && options.digest !== 'ignore' && planDigest(parsed.data) !== parsed.data.digest) {
    found.push({
      path: ['digest'],
      message:
        'does not match the content: the plan was changed after it was sealed; look at it and run: ferry plan --seal FILE',
    });
  }
  if (parsed.success && found.length === 0) {
    return { ok: true, plan: { ...parsed.data, digest: planDigest(parsed.data) } };
  }
  const errors = found.map(({ path, message }) => ({ path: formatPath(path), message, ...place(path) }));
  return { ok: false, errors: inOrder(errors) };
}

function inOrder(errors: readonly PlanError[]): PlanError[] {
  const seen = new Set<string>();
  return errors
    .filter((error) => {
      const key = `${error.path}\n${error.message}`;
      if (seen.has(key)) return false;
      seen.add(key);
      return true;
    })
    .toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
}

function issuesOf(error: z.ZodError): { path: PlanPath; message: string }[] {
  return error.issues.flatMap((issue) => {
    const path = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part));
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ path: [...path, key], message: 'unknown field' }));
    }
    if (issue.code === 'invalid_type' && issue.input === undefined && issue.message.includes('undefined')) {
      return [{ path, message: `missing, must be ${issue.expected}` }];
    }
    return [{ path, message: issue.message }];
  });
}

function syntaxErrors(text: string, format: 'yaml' | 'json', document: Document, lines: LineCounter): PlanError[] {
  const errors = document.errors.map((problem) => {
    const { line, col } = lines.linePos(problem.pos[0]);
    return { path: '', message: problem.message, line, column: col };
  });
  if (format === 'yaml' || errors.length > 0) return errors;
  try {
    JSON.parse(text);
    return [];
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const position = /position (?<offset>\d+)/.exec(message)?.groups?.['offset'];
    const { line, col } = lines.linePos(Number(position ?? 0));
    return [{ path: '', message: `not readable as JSON: ${message}`, line, column: col }];
  }
}

/** Where a path stands in the text; of something that is missing, the innermost map or list around it. */
function placeOf(document: Document, path: PlanPath, lines: LineCounter): Pick<PlanError, 'line' | 'column'> {
  for (let length = path.length; length >= 0; length -= 1) {
    const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    const key = keyNode(document, path.slice(0, length));
    const target = length === path.length && isUnknownField(node) ? (key ?? node) : (node ?? key);
    if (!isNode(target) || !target.range) continue;
    const { line, col } = lines.linePos(target.range[0]);
    return { line, column: col };
  }
  return {};
}

/** An unknown field or a value in block style is best shown at its key. */
function isUnknownField(node: unknown): boolean {
  return isNode(node) && !isScalar(node) && (node as { flow?: boolean }).flow !== true;
}

function keyNode(document: Document, path: PlanPath): Node | undefined {
  const last = path.at(-1);
  const parent: unknown = path.length <= 1 ? document.contents : document.getIn(path.slice(0, -1), true);
  if (!isMap(parent)) return undefined;
  const pair = parent.items.find((entry) => isScalar(entry.key) && entry.key.value === last);
  return isNode(pair?.key) ? pair.key : undefined;
}
