import { existsSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { stringify } from 'yaml';
import type { OutputFormat } from './commands/options.ts';
import { CliError } from './errors.ts';

/** Writes data for programs, or the text for people. */
export function print(data: unknown, format: OutputFormat, text: () => string): void {
  process.stdout.write(`${render(data, format, text).replace(/\n$/, '')}\n`);
}

/** Writes a result to a file, ended by one newline. */
export function writeResult(file: string, text: string): void {
  const directory = dirname(file);
  if (!existsSync(directory)) {
    throw new CliError('notFound', `${directory}: no such directory; nothing was written`, `mkdir -p ${directory}`);
  }
  writeFileSync(file, `${stripVTControlCharacters(text).replace(/\n$/, '')}\n`);
}

export function render(data: unknown, format: OutputFormat, text: () => string): string {
  switch (format) {
    case 'json':
      return JSON.stringify(data, null, 2);
    case 'yaml':
      return stringify(data, { lineWidth: 0 });
    case 'table':
      return text();
  }
}

/** Some pseudo terminals do not know their size, and say 0 or nothing. */
export function terminalSize(stream: { columns?: number; rows?: number } = process.stdout): {
  columns: number;
  rows: number;
} {
  const { columns = 0, rows = 0 } = stream;
  return { columns: columns > 0 ? columns : 80, rows: rows > 0 ? rows : 24 };
}

/** Columns a string takes on a terminal: colour codes take none, East Asian wide characters two. */
export function width(text: string): number {
  let columns = 0;
  for (const character of stripVTControlCharacters(text)) {
    const point = character.codePointAt(0) ?? 0;
    const isWide =
      (point >= 0x1100 && point <= 0x115f) ||
      (point >= 0x2e80 && point <= 0xa4cf) ||
      (point >= 0xac00 && point <= 0xd7a3) ||
      (point >= 0xf900 && point <= 0xfaff) ||
      (point >= 0xfe30 && point <= 0xfe6f) ||
      (point >= 0xff00 && point <= 0xff60) ||
      (point >= 0x20000 && point <= 0x3fffd);
    columns += isWide ? 2 : 1;
  }
  return columns;
}

export function pad(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - width(text)));
}

/** Columns aligned to their widest cell, two spaces between, nothing at the end of lines. */
export function table(headers: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headers, ...rows];
  const widths = headers.map((_, column) => Math.max(...lines.map((cells) => width(cells[column] ?? ''))));
  return lines
    .map((cells) =>
      widths
        .map((columns, index) => pad(cells[index] ?? '', columns))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `45s`, `12m05s`, `3h05m`; whole seconds. */
export function seconds(count: number): string {
  const whole = Math.max(0, Math.round(count));
  if (whole < 60) return `${whole}s`;
  const two = (value: number): string => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
}

/** `14:03:59`, in the time zone of whoever looks. */
export function clockTime(at: string | number | Date): string {
  return new Date(at).toLocaleTimeString('en-GB', { hour12: false });
}
