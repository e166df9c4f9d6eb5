import { formatBytes } from '../plan/amounts.ts';
import { isWithin, whyClosed } from '../plan/directories.ts';
import type { ReplicateInput } from '../plan/replicate.ts';
import { needsHuman, permanent } from './failures.ts';
import type { Mount } from './mounts.ts';
import { relate } from './mounts.ts';
import { isMarkerOf } from './transfer-marker.ts';
import { shellWord, sshCommand } from './shell-words.ts';

/** What the two machines said about the two directories. */
export interface GuardFacts {
  sameHost: boolean;
  /** Resolved paths. */
  sourcePath: string;
  destinationPath: string;
  destinationMounts: Mount[];
  /** The marker that belongs to the destination, or undefined. */
  marker: { migration: string; transfer: string; sourceHost: string; sourcePath: string } | undefined;
  /** Name of an entry that changed after the destination was proved; undefined where none did, or where nothing was proved. */
  changedSince?: string | undefined;
  /** Name of one entry of the destination, or undefined when it is empty or absent. */
  firstEntry: string | undefined;
  sourceBytes: number;
  sourceFiles: number;
  largestFile: number;
  allocatedThere: number;
  filesThere: number;
  freeBytes: number;
  /** undefined where the file system has no fixed number. */
  freeInodes: number | undefined;
}

const untouched = 'source and destination are as they were';

/** Throws the first reason for which nothing may be written to the destination. */
export function guardDestination(request: ReplicateInput, facts: GuardFacts, inplace: boolean): void {
  const { transfer } = request;
  const there = `${transfer.destination.host}:${transfer.destination.path}`;
  for (const path of new Set([transfer.destination.path, facts.destinationPath])) {
    const why = whyClosed(path);
    if (why !== undefined) {
      throw permanent({
        what: `${there} is refused as a destination`,
        cause: why,
        untouched,
        next: 'name a directory of its own in the plan and approve the new plan',
      });
    }
  }
  const roots = request.allowedRoots.length === 0 ? [transfer.destination.path] : request.allowedRoots;
  if (!roots.some((root) => isWithin(facts.destinationPath, root))) {
    throw permanent({
      what: `${there} is refused as a destination`,
      cause: `it is really ${facts.destinationPath}, which lies outside of what is allowed (${roots.join(', ')})`,
      untouched,
      next: `write ${facts.destinationPath} into the plan, or allow it`,
    });
  }
  if (facts.sameHost) guardNesting(request, facts);
  guardContents(request, facts);
  guardSpace(request, facts, inplace);
}

function guardNesting(request: ReplicateInput, facts: GuardFacts): void {
  const relation = relate(facts.destinationMounts, facts.sourcePath, facts.destinationPath);
  if (relation === 'apart') return;
  throw permanent({
    what: `${request.transfer.id} would copy a directory onto itself`,
    cause:
      relation === 'same'
        ? `${facts.sourcePath} and ${facts.destinationPath} are the same directory`
        : `one of ${facts.sourcePath} and ${facts.destinationPath} lies inside the other`,
    untouched,
    next: 'name another destination in the plan',
  });
}

function guardContents(request: ReplicateInput, facts: GuardFacts): void {
  const { transfer, migration } = request;
  const there = `${transfer.destination.host}:${facts.destinationPath}`;
  const { marker } = facts;
  if (facts.firstEntry !== undefined && marker === undefined) {
    throw needsHuman({
      what: `${there} is not empty and not a copy made by this transfer`,
      cause: `it holds ${JSON.stringify(facts.firstEntry)}, and the copy would delete it`,
      untouched,
      next: `look at it (${sshCommand(transfer.destination.host, ['ls', '-la', '--', facts.destinationPath])}), then move it away or name another directory`,
    });
  }
  if (marker === undefined || facts.firstEntry === undefined) return;
  const isOurs =
    isMarkerOf(marker, { migration, transfer }) &&
    marker.sourceHost === transfer.source.host &&
    marker.sourcePath === facts.sourcePath;
  if (isOurs && (facts.changedSince === undefined || request.discardChanges)) return;
  if (isOurs) {
    throw needsHuman({
      what: `${there} was written since it was proved to be the same as its source`,
      cause: `${JSON.stringify(facts.changedSince)} changed there afterwards, and the copy would put the older content of ${transfer.source.host}:${facts.sourcePath} in its place`,
      untouched,
      next: `look at it (${sshCommand(transfer.destination.host, ['ls', '-la', '--', facts.destinationPath])}); where all that was written there may go: ${sayAgain(request)} --discard-changes (discardChanges: true in the input)`,
    });
  }
  throw needsHuman({
    what: `${there} belongs to another transfer`,
    cause: `it was filled by ${marker.transfer} of ${marker.migration} from ${marker.sourceHost}:${marker.sourcePath}`,
    untouched,
    next: 'finish or abort that one and empty the directory, or name another destination',
  });
}

/** The command that asks for this copy. */
function sayAgain({ transfer: { source, destination } }: ReplicateInput): string {
  const place = ({ host, path }: { host: string; path: string }): string => shellWord(`${host}:${path}/`);
  return `ferry copy ${place(source)} ${place(destination)}`;
}

function guardSpace(request: ReplicateInput, facts: GuardFacts, inplace: boolean): void {
  const { transfer } = request;
  const there = `${transfer.destination.host}:${facts.destinationPath}`;
  const missing = Math.max(0, facts.sourceBytes - facts.allocatedThere);
  // What is there already, changed or cut short, is written anew beside the old one unless it is written in place.
  const beside = inplace || facts.firstEntry === undefined ? 0 : Math.min(facts.largestFile, facts.sourceBytes);
  const needed = Math.ceil(missing * 1.05 + beside) + 16 * 1024 ** 2;
  if (needed > facts.freeBytes) {
    throw needsHuman({
      what: `${there} has too little space`,
      cause: `${formatBytes(needed)} are needed, ${formatBytes(facts.freeBytes)} are free`,
      untouched,
      next: `make room on ${transfer.destination.host}, then resume`,
    });
  }
  const inodes = Math.max(0, facts.sourceFiles - facts.filesThere) + 100;
  if (facts.freeInodes !== undefined && inodes > facts.freeInodes) {
    throw needsHuman({
      what: `${there} has too few inodes`,
      cause: `${inodes} are needed, ${facts.freeInodes} are free`,
      untouched,
      next: `make room on ${transfer.destination.host}, then resume`,
    });
  }
}
