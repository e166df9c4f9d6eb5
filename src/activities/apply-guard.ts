/** Exit codes of the guard that are not the tool's own. */
export const guardExit = { broken: 85, pause: 86, freshInstall: 87 } as const;

/**
 * Seconds from the tool's first line to its start marker after which the guard ends it. A readable configuration takes 0.02 s; an
 * unreadable one exactly 3 s, then the tool installs a new cluster over the live one. Up to the marker nothing has been changed.
 */
export const guardPauseSeconds = 2;

/**
 * Runs the tool on its own machine and kills its process group on the signs of a fresh install: `guard.sh CENTISECONDS SECONDS COMMAND…`.
 * It runs beside the tool because the second sign leaves 0.03 s until kubelets are stopped: no network may lie in between.
 */
export const guardScript = `#!/bin/sh
# guard.sh CENTISECONDS SECONDS COMMAND [ARGUMENT...]: runs COMMAND, passes its output on, and ends it as soon as it behaves
# as if there were no cluster yet. Exit code: the command's; 86: too long a pause before its start marker (configuration not
# readable, nothing changed yet); 87: it announced a fresh install; 85: the guard itself could not work.
set -u
limit=$1 seconds=$2
shift 2
dir=$(mktemp -d) || exit 85
trap 'rm -rf "$dir"' EXIT
mkfifo "$dir/out" "$dir/err" || exit 85

now() {
  read -r up rest < /proc/uptime
  echo "\${up%.*}\${up#*.}"
}
end() {
  [ -e "$dir/verdict" ] || echo "$1" > "$dir/verdict"
  kill -s KILL -- "-$pid" 2>/dev/null
}

setsid "$@" > "$dir/out" 2> "$dir/err" < /dev/null &
pid=$!

while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    *'start apply cluster conf'*)
      if [ -e "$dir/first" ] && [ $(($(now) - $(cat "$dir/first"))) -gt "$limit" ]; then end 86; fi
      : > "$dir/started"
      ;;
  esac
  printf '%s\\n' "$line"
done < "$dir/out" &
out=$!

while IFS= read -r line || [ -n "$line" ]; do
  case $line in *'init kubernetes cluster begin'*) end 87 ;; esac
  if [ ! -e "$dir/first" ]; then
    now > "$dir/first"
    (
      sleep "$seconds"
      if [ -d "$dir" ] && [ ! -e "$dir/started" ] && [ ! -e "$dir/done" ]; then end 86; fi
    ) > /dev/null 2>&1 &
  fi
  printf '%s\\n' "$line" >&2
done < "$dir/err" &
err=$!

wait "$pid"
code=$?
: > "$dir/done"
wait "$out"
wait "$err"
if [ -s "$dir/verdict" ]; then code=$(cat "$dir/verdict"); fi
exit "$code"
`;
