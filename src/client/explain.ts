import { existsSync } from 'node:fs';
import { isGrpcServiceError } from '@temporalio/client';
import { NamespaceNotFoundError, WorkflowNotFoundError } from '@temporalio/common';
import { CodecError } from '../codec/errors.ts';
import { CliError } from './errors.ts';

const grpc = {
  cancelled: 1,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  unavailable: 14,
  unauthenticated: 16,
};
const networkCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
]);

/** What the system says no to, and people can do something about. */
const obstacles: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  ENOTDIR: 'a part of the path is no directory',
  EEXIST: 'exists already',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left there',
  EDQUOT: 'the quota is used up',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'too many symbolic links',
  EMFILE: 'too many open files',
  EADDRINUSE: 'something listens at this address already',
  EADDRNOTAVAIL: 'this machine does not have the address',
};

/** Turns whatever was thrown into something for people. Errors nobody foresaw stay what they are: undefined. */
export function explain(error: unknown): CliError | undefined {
  if (error instanceof CliError) return error;
  if (!(error instanceof Error)) return undefined;
  // Clients wrap what a codec throws.
  const codec = [error, error.cause].find((candidate) => candidate instanceof CodecError);
  if (codec !== undefined) {
    const isMissing = (codec.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
    return new CliError(isMissing ? 'notFound' : 'failure', codec.problem, codec.next, error);
  }
  if (error instanceof NamespaceNotFoundError) return noNamespace(error.namespace, error);
  if (error instanceof WorkflowNotFoundError) {
    return new CliError('notFound', `there is no migration ${error.workflowId}`, 'ferry status', error);
  }
  return explainGrpc(error) ?? explainSystem(error);
}

function noNamespace(name: string, cause: Error): CliError {
  return new CliError(
    'notFound',
    `Temporal has no namespace ${name}; nothing was done`,
    'temporal operator namespace list, then --namespace NAME or TEMPORAL_NAMESPACE',
    cause,
  );
}

function explainGrpc(error: Error): CliError | undefined {
  const inner = [error, error.cause].find((candidate) => isGrpcServiceError(candidate));
  if (inner === undefined || !isGrpcServiceError(inner)) return undefined;
  const code = inner.code as number;
  const namespace = /^Namespace (?<name>\S+) is not found/.exec(inner.details)?.groups?.['name'];
  if (namespace !== undefined) return noNamespace(namespace, error);
  if (code === grpc.notFound) return new CliError('notFound', inner.details, 'ferry status', error);
  if (code === grpc.unauthenticated || code === grpc.permissionDenied) {
    return new CliError(
      'refused',
      `Temporal refuses this client: ${inner.details}`,
      'set TEMPORAL_API_KEY or the TEMPORAL_TLS_* variables, or choose another --profile',
      error,
    );
  }
  if (code === grpc.unavailable || code === grpc.deadlineExceeded || code === grpc.cancelled) {
    return new CliError(
      'unreachable',
      `Temporal does not answer: ${inner.details}`,
      'check TEMPORAL_ADDRESS or --address; for a server of your own: ferry dev',
      error,
    );
  }
  return new CliError('failure', inner.details, undefined, error);
}

function explainSystem(error: Error): CliError | undefined {
  const system = error as NodeJS.ErrnoException;
  const code = system.code ?? (error.cause as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOENT' && system.path !== undefined && !existsSync(system.path)) {
    return new CliError('notFound', `${system.path}: no such file`, undefined, error);
  }
  if (code === 'EISDIR') {
    const what = system.path === undefined ? error.message : `${system.path} is a directory`;
    return new CliError('usage', `${what}; nothing was done`, 'the same command with the path of a file', error);
  }
  const obstacle = code === undefined ? undefined : obstacles[code];
  if (obstacle !== undefined) {
    const message = system.path === undefined ? `${obstacle} (${error.message})` : `${system.path}: ${obstacle}`;
    return new CliError('failure', message, undefined, error);
  }
  if (code !== undefined && networkCodes.has(code)) return new CliError('unreachable', error.message, undefined, error);
  // Failures of activities that were called directly carry their own cause and next command in the text.
  return error.name === 'ApplicationFailure' ? new CliError('failure', error.message, undefined, error) : undefined;
}
