import { existsSync, readFileSync } from 'node:fs';

export type Level = 'debug' | 'info' | 'warning' | 'error';
const order: readonly Level[] = ['debug', 'info', 'warning', 'error'];

function clock(): string {
  return new Date().toISOString().slice(11, 23);
}

/** `apply.go:41` as it stands in the log: the file's name in 16 columns, the line in four. */
function place(source: string): string {
  const [file = '', line = ''] = source.split(':');
  return `${file.padStart(16)}:${line.padEnd(4)}`;
}

/** The tool's log: text lines on stderr, values unquoted. */
export class Log {
  private readonly least: Level;
  constructor(level: string) {
    this.least = level === 'debug' || level === 'error' ? level : 'info';
  }

  line(level: Level, message: string, source: string, more = ''): void {
    if (order.indexOf(level) < order.indexOf(this.least)) return;
    const fields = more === '' ? '' : ` ${more}`;
    process.stderr.write(`time=${clock()} level=${level} msg=${message} file=${place(source)}${fields}\n`);
  }

  info(message: string, source: string, more?: string): void {
    this.line('info', message, source, more);
  }
}

export const build = {
  buildDate: '1970-01-01T00:00:00Z',
  compiler: 'gc',
  gitCommit: 'e1dfccc',
  gitTreeState: '',
  gitVersion: '0.0.0-master+e1dfccc',
  goVersion: 'go1.26.8',
  platform: 'linux/amd64',
} as const;

/** What the lab may change about the tool; absent: as on the platform. */
export interface Switches {
  /** Factor on the tool's own fixed waits. */
  sleepScale: number;
  /** The first N applies that remove more than one node fail in kubesuite. */
  flakeFirstRemovals: number;
  /** The variant of the manual procedure, whose apply takes `-p`. */
  variantP: boolean;
}

export const switchesFile = '/etc/lab/proton-cli.json';

export function readSwitches(): Switches {
  const defaults: Switches = { sleepScale: 1, flakeFirstRemovals: 0, variantP: false };
  if (!existsSync(switchesFile)) return defaults;
  return { ...defaults, ...(JSON.parse(readFileSync(switchesFile, 'utf8')) as Partial<Switches>) };
}

export function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/** Ends the tool with exit 1 and `Error: <message>` on stderr. */
export class Failure extends Error {}

/** Ends the tool with exit 2 and no `Error:` line. */
export class Crash extends Error {}
