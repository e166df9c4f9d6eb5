import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

/* What a document takes from the source text itself: comments, declarations and tables of literals. */

const root = join(import.meta.dirname, '..', '..');

export function parseSource(path: string): ts.SourceFile {
  return ts.createSourceFile(path, readFileSync(join(root, path), 'utf8'), ts.ScriptTarget.Latest, true);
}

/** The comment above a node, as one line. */
export function commentOf(node: ts.Node): string {
  const { text } = node.getSourceFile();
  const ranges = ts.getLeadingCommentRanges(text, node.getFullStart()) ?? [];
  const last = ranges.at(-1);
  if (last === undefined) return '';
  return text
    .slice(last.pos, last.end)
    .replace(/\*\/$/, '')
    .replaceAll(/^\/\*\*?|^\s*\*|^\/\//gm, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

/** Interfaces and types by name, as they are written. */
export function declarationsOf(path: string, names: readonly string[]): string {
  const source = parseSource(path);
  return names
    .map((name) => {
      const found = source.statements.find(
        (statement) =>
          (ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement)) &&
          statement.name.text === name,
      );
      if (found === undefined) throw new Error(`${path} declares no ${name}`);
      return found.getText().replace(/^export /, '');
    })
    .join('\n\n');
}

/** Initial values of the constants of a file. */
export function constantsOf(source: ts.SourceFile): Map<string, ts.Expression> {
  const constants = new Map<string, ts.Expression>();
  for (const statement of source.statements) {
    if (!ts.isVariableStatement(statement)) continue;
    for (const { name, initializer } of statement.declarationList.declarations) {
      if (ts.isIdentifier(name) && initializer !== undefined) constants.set(name.text, initializer);
    }
  }
  return constants;
}

/** A list of literal objects, its texts resolved; what is no text is left out. */
export function literalRows(path: string, constant: string): Record<string, string>[] {
  const constants = constantsOf(parseSource(path));
  const textOf = (node: ts.Expression): string | undefined => {
    if (ts.isStringLiteralLike(node) || ts.isRegularExpressionLiteral(node)) return node.text;
    if (ts.isIdentifier(node)) {
      const value = constants.get(node.text);
      return value === undefined ? undefined : textOf(value);
    }
    if (!ts.isTemplateExpression(node)) return undefined;
    return (
      node.head.text + node.templateSpans.map((span) => (textOf(span.expression) ?? '…') + span.literal.text).join('')
    );
  };
  const list = constants.get(constant);
  if (list === undefined || !ts.isArrayLiteralExpression(list)) throw new Error(`${path} has no list ${constant}`);
  return list.elements.filter(ts.isObjectLiteralExpression).map((element) => {
    const entries = element.properties.filter(ts.isPropertyAssignment).flatMap(({ name, initializer }) => {
      const text = textOf(initializer);
      return text === undefined ? [] : [[name.getText(), text] as const];
    });
    return Object.fromEntries(entries);
  });
}

export interface FailureRow {
  what: string;
  cause: string;
  next: string;
  /** `Transient`, `NeedsHuman`, `Permanent`, or by the case. */
  type: string;
}

const failureTypes: Record<string, string> = {
  transient: 'Transient',
  needsHuman: 'NeedsHuman',
  permanent: 'Permanent',
};

/** Every failure that a file can build: whatever says cause, what was left untouched, and what is next. `…` is filled in at the time. */
export function failureRows(source: ts.SourceFile): FailureRow[] {
  const rows: FailureRow[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isObjectLiteralExpression(node)) {
      const texts = new Map(
        node.properties.flatMap((property) => {
          if (ts.isShorthandPropertyAssignment(property)) return [[property.name.text, said(property.name)] as const];
          return ts.isPropertyAssignment(property)
            ? [[property.name.getText(), said(property.initializer)] as const]
            : [];
        }),
      );
      const type = ts.isCallExpression(node.parent) ? failureTypes[node.parent.expression.getText()] : undefined;
      // What is spread into it stands elsewhere.
      if (type !== undefined || ['cause', 'untouched', 'next'].every((name) => texts.has(name))) {
        const [what = '…', cause = '…', next = '…'] = ['what', 'cause', 'next'].map((name) => texts.get(name));
        rows.push({ what, cause, next, type: type ?? 'by the case' });
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return rows;
}

/** The text of an expression as people will read it. */
function said(node: ts.Expression): string {
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isIdentifier(node)) {
    const value = valueOf(node);
    return value === undefined ? '…' : said(value);
  }
  if (ts.isTemplateExpression(node)) {
    return node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('');
  }
  if (ts.isParenthesizedExpression(node)) return said(node.expression);
  if (ts.isConditionalExpression(node)) return `${said(node.whenTrue)} / ${said(node.whenFalse)}`;
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    return said(node.left) + said(node.right);
  }
  return '…';
}

/** What a constant was made of, in the nearest block around it. */
function valueOf(name: ts.Identifier): ts.Expression | undefined {
  for (let at: ts.Node = name.parent; !ts.isSourceFile(at); at = at.parent) {
    // A parameter of the same name hides what stands further out.
    if (ts.isFunctionLike(at) && at.parameters.some((parameter) => parameter.name.getText() === name.text)) return;
    if (!ts.isBlock(at)) continue;
    for (const statement of at.statements.filter(ts.isVariableStatement)) {
      const found = statement.declarationList.declarations.find((declared) => declared.name.getText() === name.text);
      if (found !== undefined) return found.initializer;
    }
  }
  return constantsOf(name.getSourceFile()).get(name.text);
}

export interface CheckRow {
  /** What is said when nothing stands against the migration. */
  proof: string[];
  /** What is said when something does. */
  next: string[];
}

/** What a check says: the texts that its function returns, `…` filled in at the time. Functions by name, in any of the files. */
export function checkRow(sources: readonly ts.SourceFile[], run: string): CheckRow {
  const row: CheckRow = { proof: [], next: [] };
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyAssignment(node) || ts.isShorthandPropertyAssignment(node)) {
      const name = node.name.getText();
      const text = said(ts.isPropertyAssignment(node) ? node.initializer : node.name);
      if ((name === 'proof' || name === 'next') && /\w/.test(text) && !row[name].includes(text)) row[name].push(text);
    }
    ts.forEachChild(node, visit);
  };
  const found = sources
    .flatMap(({ statements }) => statements.filter(ts.isFunctionDeclaration))
    .filter((declared) => declared.name?.text === run);
  if (found.length === 0) throw new Error(`no source has a function ${run}`);
  found.forEach(visit);
  return row;
}

/** Comments of the fields of a schema built by zod, by path: `transfers[].source.path`. */
export function schemaComments(path: string, constant: string): Map<string, string> {
  const constants = constantsOf(parseSource(path));
  const comments = new Map<string, string>();
  const walk = (node: ts.Expression | undefined, at: string): void => {
    if (node === undefined) return;
    if (ts.isIdentifier(node)) walk(constants.get(node.text), at);
    if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return;
    const { name, expression } = node.expression;
    const [first, second] = node.arguments;
    if (name.text === 'strictObject' && first !== undefined && ts.isObjectLiteralExpression(first)) {
      for (const property of first.properties) {
        if (!ts.isPropertyAssignment(property)) continue;
        const key = ts.isStringLiteral(property.name) ? property.name.text : property.name.getText();
        const inner = at === '' ? key : `${at}.${key}`;
        const comment = commentOf(property);
        if (comment !== '') comments.set(inner, comment);
        walk(property.initializer, inner);
      }
    } else if (name.text === 'array') walk(first, `${at}[]`);
    else if (name.text === 'discriminatedUnion' && second !== undefined && ts.isArrayLiteralExpression(second)) {
      for (const option of second.elements) walk(option, at);
    } else walk(expression, at);
  };
  walk(constants.get(constant), '');
  return comments;
}
