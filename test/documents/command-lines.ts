/** Finds the command lines in documents, as people copy them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..', '..');

/** Documents for people, below the root of the repository. */
export const documents: readonly string[] = [
  'README.md',
  'README.zh-CN.md',
  'CHANGELOG.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

/** Files whose comments tell people what to type. */
export const commentedFiles: readonly string[] = [
  'docker-compose.temporal.yml',
  'deploy/Containerfile',
  'deploy/kubernetes/rbac.yaml',
  'deploy/systemd/ferry-worker.service',
];

export interface CommandLine {
  document: string;
  /** As it stands there, without a prompt. */
  line: string;
  /** Why no test looks at it, as the document says: `<!-- not run: why -->` above the block. */
  notRun?: string;
}

/** Blocks of other languages hold no commands. */
const shells = new Set(['', 'sh', 'bash', 'console', 'shell']);

interface Block {
  lines: string[];
  /** All lines are commands; else those with a prompt are. */
  isShell: boolean;
  notRun?: string;
}

function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  let fence: string | undefined;
  let block: Block | undefined;
  let notRun: string | undefined;
  for (const line of text.split('\n')) {
    const mark = /^\s*(```+|~~~+)\s*(\w*)/.exec(line);
    if (fence !== undefined) {
      if (line.trim() === fence) fence = block = undefined;
      else block?.lines.push(line.trim());
      continue;
    }
    if (mark?.[1] !== undefined) {
      fence = mark[1];
      block = { lines: [], isShell: shells.has(mark[2] ?? ''), ...(notRun === undefined ? {} : { notRun }) };
      blocks.push(block);
      notRun = undefined;
      continue;
    }
    if (line.trim() === '') continue;
    const reason = /^\s*<!-- not run: (.+) -->$/.exec(line)?.[1];
    if (reason !== undefined) {
      notRun = reason;
      block = undefined;
    } else if (/^ {4}/.test(line) && !/^\s*([-*]|\d+\.) /.test(line) && !line.trim().startsWith('|')) {
      if (block === undefined) {
        block = { lines: [], isShell: true, ...(notRun === undefined ? {} : { notRun }) };
        blocks.push(block);
        notRun = undefined;
      }
      block.lines.push(line.trim());
    } else {
      block = undefined;
    }
  }
  return blocks;
}

/** Command lines of a document: those of its blocks, continued lines as one. */
export function commandLines(document: string, text = readFileSync(join(root, document), 'utf8')): CommandLine[] {
  return blocksOf(text).flatMap(({ lines, isShell, notRun }) => {
    const whole = lines
      .join('\n')
      .replaceAll(/\\\n\s*/g, '')
      .split('\n');
    return whole.flatMap((line) => {
      const prompted = /^\$ (.*)$/.exec(line)?.[1];
      const command = prompted ?? (isShell ? line : '');
      return command === '' || command.startsWith('#')
        ? []
        : [{ document, line: command, ...(notRun === undefined ? {} : { notRun }) }];
    });
  });
}

/** Command lines in the comments at the head of a file: those that are indented, up to a comment of their own. */
export function commentedLines(file: string, text = readFileSync(join(root, file), 'utf8')): CommandLine[] {
  const head = text.slice(0, text.search(/^[^#]/m));
  const block = head
    .split('\n')
    .flatMap((line) => /^# {3}(.*)$/.exec(line)?.[1] ?? [])
    .join('\n')
    .replaceAll(/\\\n\s*/g, '');
  // Settings of a unit are no commands.
  return block
    .split('\n')
    .filter((line) => line !== '' && !/^\[|^[A-Z]\w+=/.test(line))
    .map((line) => ({ document: file, line }));
}

/** Words of each simple command of a line, as a shell sees them, up to a comment; quotes are taken away. */
export function simpleCommands(line: string): string[][] {
  const commands: string[][] = [[]];
  for (const [word] of line.matchAll(/(?:[^\s"'|;&<>()]|"[^"]*"|'[^']*')+|\|\|?|&&|;|[<>]+|[()]|&/g)) {
    if (word.startsWith('#')) break;
    if (/^(\|\|?|&&|;|&|\(|\))$/.test(word)) commands.push([]);
    else commands.at(-1)?.push(word.replaceAll(/["']/g, ''));
  }
  return commands.map(untilRedirection).filter((words) => words.length > 0);
}

function untilRedirection(words: string[]): string[] {
  const at = words.findIndex((word) => /^[<>]+$/.test(word));
  return at < 0 ? words : words.slice(0, at);
}
