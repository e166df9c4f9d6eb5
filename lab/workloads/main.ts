/**
 * What people do with the platform in a running lab:
 *
 *   npm run -s lab -- run node lab/workloads/main.ts install [--helm]   components, applications and data
 *   npm run -s lab -- run node lab/workloads/main.ts seed               data again (changes nothing that is there)
 *   npm run -s lab -- run node lab/workloads/main.ts ledger             acknowledged = found? exit 1 if a record is missing
 */
import { accessFromEnvironment } from './access.ts';
import { componentsOf } from './components.ts';
import { checkLedger, describeVerdict, ledgerIsComplete } from './ledger.ts';
import { installPlatform, seedData } from './platform.ts';
import { profileFromEnvironment } from './service-package.ts';

async function main(): Promise<void> {
  const [command, ...rest] = process.argv.slice(2);
  const access = accessFromEnvironment();
  const profile = profileFromEnvironment();
  if (command === 'install')
    return installPlatform(access, { profile, method: rest.includes('--helm') ? 'helm' : 'proton-cli' });
  if (command === 'seed') return seedData(access, profile);
  if (command === 'ledger') {
    const verdict = await checkLedger(access, componentsOf(profile));
    console.log(describeVerdict(verdict));
    if (!ledgerIsComplete(verdict)) process.exitCode = 1;
    return;
  }
  throw new Error('usage: main.ts install [--helm] | seed | ledger');
}

await main();
