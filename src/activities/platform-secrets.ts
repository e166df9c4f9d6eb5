import { createHash } from 'node:crypto';
import { needsHuman } from './failures.ts';
import { ApiError, type KubernetesApi, type KubernetesObject, path } from './kubernetes-api.ts';

/** A Secret as it stands in the cluster; `data` is base64. */
export interface Secret extends KubernetesObject {
  type?: string;
  data?: Record<string, string>;
}

export const configSecretName = 'proton-cli-config';
export const pluginsSecretName = 'persist-component-manage-plugins';

/** `sha256:<hex>` of bytes. */
export function sha256(content: string | Buffer): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}

/** Decoded values by key. They are secret. */
export function decode(secret: Secret): Record<string, string> {
  return Object.fromEntries(
    Object.entries(secret.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]),
  );
}

/** The Secret, or a failure that says what its absence means. */
export async function requireSecret(api: KubernetesApi, namespace: string, name: string): Promise<Secret> {
  const found = await api.find<Secret>(path('v1', namespace, 'secrets', name));
  if (found !== undefined) return found;
  throw needsHuman({
    what: `The Secret ${namespace}/${name} does not exist`,
    cause: 'the platform keeps its configuration there; without it, it believes that nothing is installed',
    untouched: 'everything',
    next: `compare platform.configNamespace and platform.resourceNamespace of the plan with the cluster; restore ${name} from its backup if it was lost`,
  });
}

/**
 * Writes some keys of a Secret, only if nobody wrote it since it was read; answers the new version, or undefined on a conflict.
 * Values go in `data` of a merge patch, so other keys and fields stay as they are.
 */
export async function writeKeys(
  api: KubernetesApi,
  secret: Secret,
  values: Readonly<Record<string, string>>,
): Promise<string | undefined> {
  const { namespace, name, resourceVersion } = secret.metadata;
  try {
    const written = await api.request<Secret>('PATCH', path('v1', namespace, 'secrets', name), {
      body: {
        metadata: { resourceVersion },
        data: Object.fromEntries(
          Object.entries(values).map(([key, value]) => [key, Buffer.from(value, 'utf8').toString('base64')]),
        ),
      },
    });
    return written.metadata.resourceVersion;
  } catch (error) {
    if (error instanceof ApiError && error.code === 409) return undefined;
    throw error;
  }
}
