import { readFileSync } from 'node:fs';

/** Reads a file that a person named. Node names no file when the read itself fails, as that of a directory does. */
export function readNamed(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw error instanceof Error ? Object.assign(error, { path: file }) : error;
  }
}
