import { Failure, Crash, type Log } from './log.ts';
import { ownKubernetes, readNamespaces } from './namespaces.ts';
import { nilPointer, part } from './rules/access.ts';
import { dumpConfig, readConfig } from './rules/config.ts';

export const configSecret = 'proton-cli-config';
export const configKey = 'ClusterConfiguration';

/** Where older installations kept their connections. The lab has none of these. */
const releases = ['rds', 'mongodb', 'redis', 'es', 'mq', 'proton-policy-engine', 'proton-etcd'];

/** `get conf`: the recorded configuration, keys sorted, with what the tool drops and adds on the way. */
export async function getConf(namespace: string | undefined, log: Log): Promise<void> {
  const kubernetes = ownKubernetes();
  if (kubernetes === undefined) throw new Failure('kubernetes client set is nil');
  const where = namespace ?? readNamespaces().config;
  const secret = await kubernetes.secret(where, configSecret).catch((error: unknown) => {
    throw new Failure(error instanceof Error ? error.message : String(error));
  });
  const read = readConfig(Buffer.from(secret.data?.[configKey] ?? '', 'base64').toString());
  if (read.kind === 'rejected') throw new Failure(read.message);
  const config = { ...read.config };
  if (part(config, 'resource_connect_info') === undefined) {
    for (const release of releases) {
      const name = `cms-release-config-${release}`;
      log.info(`get secret ${name} from namespace anyshare failed: not found`, 'resourceInfo.go:239');
    }
    config['resource_connect_info'] = {};
  } else config['component_management'] = {};
  if (part(config, 'deploy') === undefined) {
    process.stdout.write(`GuessDeployConfig using namespace: ${where}\n`);
    config['deploy'] = { devicespec: 'AS10000', mode: 'standard' };
  }
  if (part(config, 'cr') === undefined) throw new Crash(nilPointer);
  process.stdout.write(dumpConfig(config));
}
