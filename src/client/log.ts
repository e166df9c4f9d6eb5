import { stripVTControlCharacters } from 'node:util';
import type { LogMetadata, Logger, LogLevel } from '@temporalio/worker';
import { pino } from 'pino';
import { pcError } from './colors.ts';

/** Names under which a secret could stand in a log record, at any of the first three levels. */
const secretNames = [
  'password',
  'passwd',
  'admin_passwd',
  'admin_key',
  'token',
  'privateKey',
  'passphrase',
  'data',
  'url',
];
const redacted = secretNames.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);
const pinoLevels = { TRACE: 'trace', DEBUG: 'debug', INFO: 'info', WARN: 'warn', ERROR: 'error' } as const;

export interface LogOptions {
  level: LogLevel;
  /** JSON lines for machines, one readable line for people. */
  format: 'json' | 'text';
  write: (line: string) => void;
}

/** The worker's log as the Temporal runtime takes it. */
export function createLogger(options: LogOptions): Logger {
  const sink = {
    write: (line: string): void => options.write(options.format === 'json' ? line : `${readable(line)}\n`),
  };
  const logger = pino(
    {
      level: pinoLevels[options.level],
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: redacted, censor: '[redacted]' },
      serializers: { error: pino.stdSerializers.err },
    },
    sink,
  );
  const at = (level: LogLevel) => (message: string, meta?: LogMetadata) =>
    logger[pinoLevels[level]](withoutNanoseconds(meta), message);
  return {
    log: (level, message, meta) => at(level)(message, meta),
    trace: at('TRACE'),
    debug: at('DEBUG'),
    info: at('INFO'),
    warn: at('WARN'),
    error: at('ERROR'),
  };
}

/** The runtime adds its own time as a bigint, which JSON cannot carry. */
function withoutNanoseconds(meta: LogMetadata | undefined): object {
  if (meta === undefined) return {};
  return Object.fromEntries(
    Object.entries(meta).filter(([, value]) => typeof value !== 'bigint' && typeof value !== 'symbol'),
  );
}

const shown = ['workflowId', 'activityType', 'attempt', 'taskQueue', 'error'];

function readable(line: string): string {
  const record = JSON.parse(line) as Record<string, unknown>;
  const level = String(record['level']);
  const paint = level === 'error' ? pcError.red : level === 'warn' ? pcError.yellow : pcError.dim;
  const details = shown.flatMap((name) => {
    const value = record[name];
    if (value === undefined || (name === 'attempt' && value === 1)) return [];
    return [`${name}=${typeof value === 'string' ? value : firstLine(value)}`];
  });
  const time = String(record['time']).slice(11, 19);
  return `${pcError.dim(time)} ${paint(level.padEnd(5))} ${stripVTControlCharacters(String(record['msg']))} ${pcError.dim(details.join(' '))}`.trimEnd();
}

function firstLine(value: unknown): string {
  const message = (value as { message?: unknown } | null)?.message;
  return JSON.stringify(typeof message === 'string' ? message.split('\n')[0] : value);
}
