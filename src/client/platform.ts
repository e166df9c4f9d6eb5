import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node';
import { networkCode } from '../activities/failures.ts';
import type { KubernetesApi } from '../activities/kubernetes-api.ts';
import { ApiError, createKubernetesApi, loadKubeConfig } from '../activities/kubernetes-api.ts';
import type { Hosts } from '../hosts/contract.ts';
import { HostKeyMismatch, HostRefused, HostUnreachable } from '../hosts/errors.ts';
import type { KnownHost } from '../hosts/known-hosts.ts';
import { parseKnownHosts } from '../hosts/known-hosts.ts';
import { createHosts } from '../hosts/ssh.ts';
import { CliError } from './errors.ts';
import { readNamed } from './files.ts';
import { readIdentity } from './identity.ts';

/* The way to the platform itself, for commands that look at it without a workflow. */

export interface PlatformOptions {
  kubeconfig?: string;
  sshIdentity?: string;
}

export interface Platform {
  api: KubernetesApi;
  hosts: Hosts;
  kubeConfig: KubeConfig;
}

/** Opens the cluster and does the work; what stands in the way is told for people. */
export async function withCluster<T>(options: PlatformOptions, work: (api: KubernetesApi) => Promise<T>): Promise<T> {
  const { api } = openCluster(options.kubeconfig);
  try {
    return await work(api);
  } catch (error) {
    throw explainPlatform(error, api.server);
  }
}

/** The same with the machines; closes the connections to them. */
export async function withPlatform<T>(options: PlatformOptions, work: (platform: Platform) => Promise<T>): Promise<T> {
  const { api, kubeConfig } = openCluster(options.kubeconfig);
  const hosts = openHosts(options.sshIdentity);
  try {
    return await work({ api, hosts, kubeConfig });
  } catch (error) {
    throw explainPlatform(error, api.server);
  } finally {
    await hosts.close();
  }
}

export function openCluster(file: string | undefined): { api: KubernetesApi; kubeConfig: KubeConfig } {
  try {
    const kubeConfig = loadKubeConfig(file);
    refuseUnsafeServer(kubeConfig, file);
    return { kubeConfig, api: createKubernetesApi(kubeConfig) };
  } catch (error) {
    if (error instanceof CliError) throw error;
    const { code, path } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      throw new CliError(
        'notFound',
        `${path ?? file ?? 'KUBECONFIG'}: no such kubeconfig; nothing was done`,
        'name the file: --kubeconfig FILE or KUBECONFIG',
        error,
      );
    }
    throw new CliError(
      'usage',
      `the kubeconfig cannot be used: ${error instanceof Error ? error.message : String(error)}; nothing was done`,
      'kubectl config view --minify, then name the file: --kubeconfig FILE or KUBECONFIG',
      error,
    );
  }
}

/** Where there is no kubeconfig at all the library asks a server without TLS on this machine, and then refuses to ask it. */
function refuseUnsafeServer(kubeConfig: KubeConfig, file: string | undefined): void {
  const server = kubeConfig.getCurrentCluster()?.server;
  if (server?.startsWith('http://') !== true) return;
  const isNone = file === undefined && (process.env['KUBECONFIG'] ?? '') === '' && server === 'http://localhost:8080';
  throw isNone
    ? new CliError(
        'notFound',
        'there is no kubeconfig: KUBECONFIG is not set, and there is no ~/.kube/config; nothing was done',
        'name the file: --kubeconfig FILE or KUBECONFIG',
      )
    : new CliError(
        'usage',
        `the kubeconfig names ${server}, a server without TLS: Secrets would travel in the open; nothing was done`,
        'name the server with https:// in the kubeconfig',
      );
}

function openHosts(named: string | undefined): Hosts {
  const { privateKey, passphrase } = readIdentity(named);
  return createHosts({ privateKey, ...(passphrase === undefined ? {} : { passphrase }) });
}

/** Obstacles on the way to cluster and machines; everything else stays what it is. */
export function explainPlatform(error: unknown, server: string): unknown {
  if (error instanceof ApiError) {
    const denied = error.code === 401 || error.code === 403;
    return new CliError(
      denied ? 'refused' : 'failure',
      `the cluster (${server}) answers ${error.code}: ${error.message}; nothing was changed`,
      denied ? 'use a kubeconfig that may do this: kubectl auth whoami' : 'kubectl get --raw /readyz',
      error,
    );
  }
  if (error instanceof HostKeyMismatch || error instanceof HostRefused || error instanceof HostUnreachable) {
    return new CliError(
      'unreachable',
      `${error.message}; nothing was changed`,
      error instanceof HostKeyMismatch
        ? 'compare the key of the machine at its console before you trust it'
        : `ssh -i YOUR-KEY root@${error.host} true`,
      error,
    );
  }
  if (error instanceof CliError) return error;
  const certificate = certificateCode(error);
  if (certificate !== undefined) {
    return new CliError(
      'unreachable',
      `the certificate of the cluster (${server}) is not trusted (${certificate}); nothing was changed`,
      'compare certificate-authority-data of the kubeconfig with the cluster: kubectl get --raw /readyz',
      error,
    );
  }
  const code = networkCode(error);
  if (code === undefined) return error;
  return new CliError(
    'unreachable',
    `the cluster (${server}) does not answer (${code}); nothing was changed`,
    'kubectl get --raw /readyz, then check KUBECONFIG or --kubeconfig',
    error,
  );
}

/** OpenSSL's name for what is wrong with a certificate, from a chain of causes. */
function certificateCode(error: unknown): string | undefined {
  for (let current = error, depth = 0; current instanceof Error && depth < 8; current = current.cause, depth += 1) {
    const { code } = current as NodeJS.ErrnoException;
    if (typeof code === 'string' && /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_)/.test(code)) return code;
  }
  return undefined;
}

/** Where host keys of machines are looked up, as ssh does; FERRY_KNOWN_HOSTS takes their place. */
export function knownHostsFiles(env: NodeJS.ProcessEnv = process.env): string[] {
  const named = env['FERRY_KNOWN_HOSTS'];
  if (named !== undefined && named !== '') return [named];
  return [join(homedir(), '.ssh', 'known_hosts'), '/etc/ssh/ssh_known_hosts'];
}

export function readKnownHosts(env: NodeJS.ProcessEnv = process.env): KnownHost[] {
  return knownHostsFiles(env)
    .filter((file) => existsSync(file))
    .flatMap((file) => parseKnownHosts(readNamed(file).toString()));
}
