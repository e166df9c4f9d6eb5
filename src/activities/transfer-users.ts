import type { HostConnection } from '../hosts/contract.ts';
import { isWithin } from '../plan/directories.ts';
import { runScript } from './host-script.ts';
import type { Mount } from './mounts.ts';
import { parseMountInfo, placeOf } from './mounts.ts';

/** Somebody who holds a tree. */
export interface TreeUser {
  kind: 'writes' | 'maps' | 'opens' | 'container' | 'cron';
  /** For people: `redis-server (pid 812, redis.service) has appendonly.aof open for writing`. */
  text: string;
}

/**
 * Arguments: tree, `write` (only who can write counts) or `any`. Files are recognised by device and inode, so that a container that sees
 * the tree under another name is found as well. Answers lines `kind<TAB>text`.
 */
const usersScript = String.raw`
tree=$1 want=$2
umask 077; mkdir -p /var/lib/ferry && work=$(mktemp -d /var/lib/ferry/users.XXXXXX) || return 1
devices=$(find "$tree" -type d -printf '%D\n' 2>/dev/null | sort -u | tr '\n' ' ')
{
  find /proc/[0-9]*/fd -maxdepth 1 -type l -lname '/*' -print0 2>/dev/null | xargs -0 -r stat -L -c '%d:%i %n' 2>/dev/null |
    awk -v devices="$devices" -v want="$want" '
      BEGIN { n = split(devices, list, " "); for (i = 1; i <= n; i++) near[list[i]] = 1 }
      { split($1, id, ":"); if (!(id[1] in near)) next
        split($2, part, "/"); file = "/proc/" part[3] "/fdinfo/" part[5]; use = "opens"
        while ((getline line < file) > 0) if (line ~ /^flags:/ && line ~ /[12]$/) use = "writes"
        close(file)
        if (use == "writes" || want == "any") print $1, use, part[3] }'
  grep -HE '^[0-9a-f]+-[0-9a-f]+ .w.s ' /proc/[0-9]*/maps 2>/dev/null | awk '
      function hex(text, i, value) { value = 0; for (i = 1; i <= length(text); i++) value = value * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1; return value }
      $5 != 0 { split($4, dev, ":"); major = hex(dev[1]); minor = hex(dev[2]); split($1, part, "/")
        printf "%d:%s maps %s\n", minor % 256 + major * 256 + (minor - minor % 256) * 4096, $5, part[3] }'
} | sort -u >"$work/held"
if [ -s "$work/held" ]; then
  find "$tree" -printf '%D:%i %P\n' 2>/dev/null | awk -v held="$work/held" '
    BEGIN { while ((getline line < held) > 0) { split(line, w, " "); seen[w[1]] = seen[w[1]] " " w[2] ":" w[3] } }
    $1 in seen { id = $1; sub(/^[^ ]* ?/, ""); n = split(seen[id], uses, " "); for (i = 1; i <= n; i++) if (!done[uses[i]]++) print uses[i], $0 }
  ' | head -n 20 | while read -r use name; do
    kind=${'$'}{use%%:*} pid=${'$'}{use##*:}
    unit=$(sed -n 's#.*/\([^/]*\)$#\1#p' "/proc/$pid/cgroup" 2>/dev/null | grep -v '^$' | tail -n 1 | cut -c1-60)
    case $kind in writes) how='open for writing' ;; maps) how='mapped for writing' ;; *) how=open ;; esac
    printf '%s\t%s (pid %s, %s) has %s %s\n' "$kind" "$(cat "/proc/$pid/comm" 2>/dev/null)" "$pid" "$unit" "${'$'}{name:-.}" "$how"
  done
fi
rm -rf -- "$work"
`;

/** Mounts of other worlds: one line per namespace whose root is not the machine's. */
const containersScript = String.raw`
own=$(awk '$5 == "/" { print $3 $4 }' /proc/1/mountinfo | tail -n 1)
find /proc/[0-9]*/ns/mnt -maxdepth 0 -printf '%l %h\n' 2>/dev/null | awk 'NF == 2 && !seen[$1]++ { print $2 }' | while read -r proc; do
  proc=${'$'}{proc%/ns}
  root=$(awk '$5 == "/" { print $3 $4 }' "$proc/mountinfo" 2>/dev/null | tail -n 1)
  [ -z "$root" ] || [ "$root" = "$own" ] && continue
  pid=${'$'}{proc#/proc/}
  echo "=== $pid $(tr -d '\n' <"$proc/comm") $(sed -n 's#.*/\([^/]*\)$#\1#p' "$proc/cgroup" 2>/dev/null | grep -v '^$' | tail -n 1 | cut -c1-60)"
  cat "$proc/mountinfo" 2>/dev/null
done
:
`;

/**
 * Arguments: two names of the tree. A line names it when it stands there as a path of its own or as the beginning of one: `/srv/a` is
 * neither in `/srv/ab` nor in `/mnt/srv/a`.
 */
const cronScript = String.raw`
find -L /etc/crontab /etc/anacrontab /etc/cron.d /etc/cron.hourly /etc/cron.daily /etc/cron.weekly /etc/cron.monthly /var/spool/cron -type f -print0 2>/dev/null |
  one=$1 two=$2 xargs -0 -r awk '
    function names(path, rest, at) {
      for (rest = " " $0; (at = index(rest, path)) > 0; rest = substr(rest, at + 1))
        if (substr(rest, at - 1, 1) !~ /[A-Za-z0-9._\/-]/ && substr(rest, at + length(path), 1) !~ /[A-Za-z0-9._-]/) return 1
      return 0
    }
    /^[ \t]*#/ { next }
    names(ENVIRON["one"]) || names(ENVIRON["two"]) { print FILENAME }' 2>/dev/null | sort -u | head -n 5
:
`;

/** All looks at once. Arguments: tree, `write` or `any`, another name of the tree. Names that anybody may choose come last. */
const lookScript = `
processes() {${usersScript}}
containers() {${containersScript}}
cron() {${cronScript}}
cat /proc/self/mountinfo || return 1
echo '=== containers'
containers
echo '=== cron'
cron "$1" "$3"
echo '=== processes'
processes "$1" "$2"
`;

/**
 * Who holds a tree on a machine: processes, containers, cron. `write`: only who can write to it now or by his mount. `name`: how people
 * call the tree, where that is not its resolved path.
 */
export async function usersOf(
  connection: HostConnection,
  path: string,
  want: 'write' | 'any',
  name = path,
): Promise<TreeUser[]> {
  const text = await runScript(connection, `looking who uses ${path}`, lookScript, [path, want, name], {
    timeout: 1_800_000,
    maxOutput: 64 * 1024 ** 2,
  });
  const [own, inContainers, inCron, inProcesses] = sectionsOf(text);
  return [
    ...processUsers(inProcesses),
    ...containerUsers(parseMountInfo(own), inContainers, path, want),
    ...cronUsers(inCron),
  ];
}

/** In the order of the script; a line of the same words further down belongs to a name. */
function sectionsOf(text: string): [string, string, string, string] {
  const [own, afterOwn] = parted(text, '=== containers\n');
  const [containers, afterContainers] = parted(afterOwn, '=== cron\n');
  const [cron, processes] = parted(afterContainers, '=== processes\n');
  return [own, containers, cron, processes];
}

function parted(text: string, at: string): [string, string] {
  const begin = `\n${text}`.indexOf(`\n${at}`);
  if (begin === -1) throw new TypeError(`an answer without ${at.trim()}`);
  return [text.slice(0, begin), text.slice(begin + at.length)];
}

function processUsers(text: string): TreeUser[] {
  return text.split('\n').flatMap((line): TreeUser[] => {
    const [kind, words] = line.split('\t');
    if (words === undefined || (kind !== 'writes' && kind !== 'maps' && kind !== 'opens')) return [];
    return [{ kind, text: words }];
  });
}

function containerUsers(mounts: readonly Mount[], text: string, path: string, want: 'write' | 'any'): TreeUser[] {
  const place = placeOf(mounts, path);
  if (place === undefined) return [];
  const root = placeOf(mounts, '/');
  return text.split('=== ').flatMap((block): TreeUser[] => {
    const [head = '', ...lines] = block.split('\n');
    const [pid, name, unit] = head.split(' ');
    const seen = parseMountInfo(lines.join('\n'));
    // Agents of the platform see the whole machine, and all that is mounted on it, below one of their directories. What they open is seen.
    const wholes = seen.filter((each) => each.device === root?.device && each.root === root.path);
    const isOfWhole = (candidate: Mount): boolean =>
      wholes.some((whole) => isWithin(candidate.mountPoint, whole.mountPoint));
    const mount = seen.find(
      (candidate) =>
        candidate.device === place.device &&
        !isOfWhole(candidate) &&
        (isWithin(candidate.root, place.path)
          ? want === 'any' || candidate.writable
          : // What takes in the tree among others counts only where it can be written to: many agents read far and wide.
            isWithin(place.path, candidate.root) && candidate.writable),
    );
    if (mount === undefined) return [];
    const text = `the container ${unit ?? ''} of ${name ?? ''} (pid ${pid ?? ''}) mounts it at ${mount.mountPoint}`;
    return [{ kind: 'container', text }];
  });
}

function cronUsers(text: string): TreeUser[] {
  return text
    .split('\n')
    .filter(Boolean)
    .map((file): TreeUser => ({ kind: 'cron', text: `the cron table ${file} names it` }));
}

/** One line that names the holders. */
export function describeUsers(users: readonly TreeUser[]): string {
  const shown = users.slice(0, 5).map((user) => user.text);
  const rest = users.length > shown.length ? `; and ${users.length - shown.length} more` : '';
  return shown.join('; ') + rest;
}
