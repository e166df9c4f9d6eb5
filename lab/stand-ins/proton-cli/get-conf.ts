import { Failure } from './log.ts';
import { ownKubernetes, readNamespaces } from './namespaces.ts';
import { dumpConfig, readConfig } from './rules/config.ts';
import { Crash } from './log.ts';

export const configSecret = 'proton-cli-config';
export const configKey = 'ClusterConfiguration';

/** `get conf`: the recorded configuration, keys sorted, with what the tool drops and adds on the way. */
export async function getConf(namespace: string | undefined): Promise<void> {
  const kubernetes = ownKubernetes();
  if (kubernetes === undefined) throw new Failure('kubernetes client set is nil');
  const where = namespace ?? readNamespaces().config;
  const secret = await kubernetes.secret(where, configSecret).catch((error: unknown) => {
    throw new Failure(error instanceof Error ? error.message : String(error));
  });
  const text = Buffer.from(secret.data?.[configKey] ?? '', 'base64').toString();
  const read = readConfig(text);
  if (read.kind === 'rejected') throw read.exitCode === 2 ? new Crash(read.message) : new Failure(read.message);
  const config = { ...read.config };
  if (config['resource_connect_info'] !== undefined) config['component_management'] = {};
  if (config['deploy'] === undefined) {
    process.stdout.write(`GuessDeployConfig using namespace: ${where}\n`);
    config['deploy'] = { devicespec: 'AS10000', mode: 'standard' };
  }
  if (config['cr'] === undefined)
    throw new Crash('panic: runtime error: invalid memory address or nil pointer dereference');
  process.stdout.write(dumpConfig(config));
}
